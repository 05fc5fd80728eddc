"""Escape untrusted names of folders and files for display."""

from __future__ import annotations

import unicodedata

LINE_BREAKING = {"Cc", "Cs", "Zl", "Zp"}
BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
RIGHT_TO_LEFT = {"R", "AL"}
PLAIN = frozenset(" ,;%=()/")
ISOLATE, END_ISOLATE = "\u2068", "\u2069"


def one_line(text: str) -> str:
    """Escape characters that break or reorder a line, control a terminal or are illegal in XML.

    A line feed, for example, becomes the visible text \\x0a. Emoji and letters of all
    scripts stay.
    """
    return "".join(_escape(char) if _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in LINE_BREAKING or char in BIDI_CONTROLS or ord(char) & 0xFFFE == 0xFFFE


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def markdown_text(text: str) -> str:
    """Escape `text` so that Markdown shows it unchanged, also in a table cell.

    Possible markup becomes character references.
    """
    safe = "".join(char if _is_plain(char) else f"&#{ord(char)};" for char in one_line(text))
    # Sites link @names in the visible text. An invisible word joiner behind the sign prevents that.
    safe = safe.replace("&#64;", "&#64;&#8288;")
    if any(unicodedata.bidirectional(char) in RIGHT_TO_LEFT for char in text):
        return f"{ISOLATE}{safe}{END_ISOLATE}"
    return safe


def markdown_name(text: str) -> str:
    """Format a name as code, where sites do not turn numbers and addresses into links."""
    return f"<code>{markdown_text(text)}</code>"


def _is_plain(char: str) -> bool:
    return not char.isascii() or char.isalnum() or char in PLAIN
