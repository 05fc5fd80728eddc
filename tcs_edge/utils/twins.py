"""Names that differ only by characters that nobody sees."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

# Without a width in any font, beside the format characters (Cf): joiner, fillers, selectors of a variant.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def visible_form(name: str) -> str:
    """Return the visible characters of a name, with one kind of blanks, in composed Unicode form (NFC)."""
    visible = "".join(" " if unicodedata.category(char) == "Zs" else char for char in name if not _is_invisible(char))
    return unicodedata.normalize("NFC", visible)


def equal_in_sight(names: Iterable[str]) -> str | None:
    """Return the complaint about two different names of the same visible form, with code points; None without such."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        groups[visible_form(name)].append(name)
    for group in groups.values():
        if len(group) > 1:
            first, second = group[:2]
            return (
                f"the class names {_with_code_points(first, second)} and {_with_code_points(second, first)} look the "
                "same. Give them one name if they are one class, or rename one."
            )
    return None


def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) == "Cf" or _INVISIBLE.match(char) is not None


def _with_code_points(name: str, other: str) -> str:
    """Return the name with the code points that the other one lacks, such as "'cat\\u200b' (U+200B)"."""
    own = Counter(name) - Counter(other) or Counter(filter(_is_invisible, name))
    points = " ".join(f"U+{ord(char):04X}" for char in own.elements())
    return f"{name!r} ({points})" if points else repr(name)
