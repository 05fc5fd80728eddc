"""Class names from folders and files: unusable names and invisible differences are refused, and names that look alike
are found."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tcs_edge.errors import DataError
from tcs_edge.utils.twins import equal_in_sight, visible_form

_LINE_SEPARATORS = ("Zl", "Zp")


def class_name_of(folder: Path) -> str:
    """Return the class of a folder: its name in composed Unicode form (NFC), equal on every system.

    Raises:
        DataError: bytes that are not UTF-8, line breaks or control characters in the name.
    """
    return class_name(folder.name, f"class folder {folder.name!a} in {folder.parent}")


def class_name(text: str, origin: str) -> str:
    """Return a class name in composed Unicode form (NFC).

    Args:
        origin: place of the name, for the message.

    Raises:
        DataError: as `class_name_of`.
    """
    name = unicodedata.normalize("NFC", text)
    if problem := _problem(name):
        raise DataError(f"{origin} has {problem} in its name. Rename it.")
    return name


def _problem(name: str) -> str | None:
    kinds = {unicodedata.category(letter) for letter in name}
    if "Cs" in kinds:
        return "bytes that are not UTF-8"
    if "\n" in name or "\r" in name or kinds & set(_LINE_SEPARATORS):
        return "a line break"
    if "Cc" in kinds:
        return "a control character"
    return None if name.strip() else "only blanks"


def require_visible_differences(names: Iterable[str], origin: str) -> None:
    """Fail if two different names differ only by invisible characters, kinds of blanks or Unicode forms.

    Args:
        origin: place of the names, for the message.

    Raises:
        DataError: names both, with the code points that differ.
    """
    if complaint := equal_in_sight(names):
        raise DataError(f"{origin}: {complaint}")


def look(name: str) -> str:
    """Return a key that is equal for names that look alike: compatible characters, case and blanks."""
    text = visible_form(unicodedata.normalize("NFKC", visible_form(name))).casefold()
    return unicodedata.normalize("NFC", " ".join(text.split()))


def lookalikes(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of different names that look alike."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        groups[look(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]
