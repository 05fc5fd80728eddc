"""Measure, cut and break names of any script: classes, files, runs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

from markupsafe import Markup

from tcs_edge.report.text import one_line

WIDE_EAST_ASIAN = {"W", "F"}
WIDTHLESS = {"Mn", "Me", "Cf"}
ELLIPSIS = "…"
LONGEST_WHOLE = 24  # columns; shorter words never break
# A browser breaks a line after a blank, a hyphen and a slash, but not after these. A suffix such as .png stays.
SEPARATORS = re.compile(r"(?<=[_:+])(?=\w)|(?<=\.)(?=\w{5})")
BREAKS = re.compile(r"[\s/-]+")


def columns(text: str) -> int:
    """Return the width of `text` in columns: 2 for East Asian letters and emoji, 0 for marks, else 1."""
    return sum(map(columns_of, text))


def columns_of(char: str) -> int:
    """Return the columns of one character."""
    if unicodedata.category(char) in WIDTHLESS:
        return 0
    return 2 if unicodedata.east_asian_width(char) in WIDE_EAST_ASIAN else 1


def cut_to(text: str, most: float, width_of: Callable[[str], float] = columns_of) -> str:
    """Return `text`, cut with an ellipsis if it is wider than `most`; a mark stays with its letter.

    Args:
        width_of: width of a character, by default in columns.
    """
    if sum(map(width_of, text)) <= most:
        return text
    kept, used = "", width_of(ELLIPSIS)
    for char in text:
        used += width_of(char)
        if used > most:
            break
        kept += char
    return kept.rstrip("\u200d") + ELLIPSIS


def longest_word(names: Iterable[str]) -> int:
    """Return the columns of the longest part that has no place for a line break; 0 without names."""
    parts = (part for name in names for part in SEPARATORS.split(one_line(name)))
    return max((columns(word) for part in parts for word in BREAKS.split(part)), default=0)


def breakable_name(text: str) -> Markup:
    """Escape an untrusted name on one line, in its own text direction.

    A line may break after a separator, and inside a word only if it has more than `LONGEST_WHOLE` columns.
    """
    parts = Markup("<wbr>").join(SEPARATORS.split(one_line(text)))
    long = longest_word([text]) > LONGEST_WHOLE
    return Markup('<bdi class="long">{}</bdi>' if long else "<bdi>{}</bdi>").format(parts)
