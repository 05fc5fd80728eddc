"""Names come from folders and files that anybody wrote: this makes them safe to show."""

from __future__ import annotations

import unicodedata

LINE_BREAKING = {"Cc", "Cs", "Zl", "Zp"}
BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
RIGHT_TO_LEFT = {"R", "AL"}
PLAIN = frozenset(" ,;%=()/")
ISOLATE, END_ISOLATE = "\u2068", "\u2069"


def one_line(text: str) -> str:
    """`text` without anything that breaks a line, steers a terminal, reorders a line or is no legal XML.

    Such characters become visible escapes: a line feed is shown as \\x0a. Emoji and letters of all
    scripts stay.
    """
    return "".join(_escape(char) if _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in LINE_BREAKING or char in BIDI_CONTROLS or ord(char) & 0xFFFE == 0xFFFE


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def markdown_text(text: str) -> str:
    """`text` so that Markdown shows it letter by letter, in a table cell too.

    What could be markup becomes a character reference, which never is.
    """
    safe = "".join(char if _is_plain(char) else f"&#{ord(char)};" for char in one_line(text))
    # Sites look for @names in the text that a reader sees: a word joiner behind the sign is not seen.
    safe = safe.replace("&#64;", "&#64;&#8288;")
    if any(unicodedata.bidirectional(char) in RIGHT_TO_LEFT for char in text):
        return f"{ISOLATE}{safe}{END_ISOLATE}"
    return safe


def markdown_name(text: str) -> str:
    """A name as code: there, sites make no links of numbers and addresses."""
    return f"<code>{markdown_text(text)}</code>"


def _is_plain(char: str) -> bool:
    return not char.isascii() or char.isalnum() or char in PLAIN
