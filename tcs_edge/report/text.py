"""Escape untrusted names of folders and files for display."""

from __future__ import annotations

import codecs
import json
import re
import sys
import unicodedata

LINE_BREAKING = {"Cc", "Cs", "Zl", "Zp"}
BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
RIGHT_TO_LEFT = {"R", "AL"}
# The runner of GitHub looks for "::" at the start of a line, those of GitHub and Azure for "##[" and "##vso[" anywhere.
_CI_COMMAND = re.compile(r"\A\s*:(?=:)|#(?=#\w*\[)")
PLAIN = frozenset(" ,;%=()/")
ISOLATE, END_ISOLATE = "\u2068", "\u2069"


def one_line(text: str) -> str:
    """Escape characters that break or reorder a line, control a terminal or are illegal in XML.

    A line feed, for example, becomes the visible text \\x0a. Emoji and letters of all
    scripts stay. A line that a CI system would take for a command, such as ::stop-commands:: of GitHub or
    ##vso[...] of Azure, loses that meaning.
    """
    shown = "".join(_escape(char) if _is_hidden(char) else char for char in text)
    return _CI_COMMAND.sub(lambda found: found[0][:-1] + _escape(found[0][-1]), shown)


def json_text(text: str) -> str:
    """Escape the same characters and commands in a JSON document, whose line feeds stay."""
    if not text.isascii() or "\x7f" in text:
        text = "".join(_json_escape(char) if _is_hidden(char) and char != "\n" else char for char in text)
    return re.sub(r"#(?=#\w*\[)", r"\\u0023", text)


def _json_escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if char == "\x7f" else json.dumps(char)[1:-1]


def visible(text: str) -> str:
    """Escape as `one_line` does, but keep line feeds."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in LINE_BREAKING or char in BIDI_CONTROLS or ord(char) & 0xFFFE == 0xFFFE


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# Substitutes for the symbols of tcs-edge itself in an encoding that lacks them, such as cp1252 of a pipe on Windows.
SUBSTITUTES = {"≤": "<=", "≥": ">=", "↑": "^", "↓": "v", "→": "->", "×": "x", "…": "...", "±": "+/-"}
ENCODING_ERRORS = "tcs-edge-visible"


def _visible(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by a substitute or an escape; a handler for `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SUBSTITUTES.get(char) or _escape(char) for char in lacking), error.end


codecs.register_error(ENCODING_ERRORS, _visible)


def markdown_text(text: str) -> str:
    """Escape `text` so that Markdown shows it unchanged, also in a table cell.

    Possible markup becomes character references.
    """
    safe = "".join(char if _is_plain(char) else f"&#{ord(char)};" for char in one_line(text))
    # Sites link @names in the visible text. An invisible word joiner behind the sign prevents that.
    safe = safe.replace("&#64;", "&#64;&#8288;")
    return isolated(safe)


def isolated(text: str) -> str:
    """Put isolating characters around right-to-left text, so that it does not reorder its surroundings."""
    if any(unicodedata.bidirectional(char) in RIGHT_TO_LEFT for char in text):
        return f"{ISOLATE}{text}{END_ISOLATE}"
    return text


def markdown_name(text: str) -> str:
    """Format a name as code, where sites do not turn numbers and addresses into links."""
    return f"<code>{markdown_text(text)}</code>"


def _is_plain(char: str) -> bool:
    return not char.isascii() or char.isalnum() or char in PLAIN


def accept_all_characters() -> None:
    """Let stdout and stderr replace characters that their encoding lacks, instead of raising an error.

    A pipe on Windows has an encoding such as cp1252, which lacks arrows, many letters and emoji.
    """
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors=ENCODING_ERRORS)
