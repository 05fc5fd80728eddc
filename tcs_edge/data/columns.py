"""Columns of a table: which one holds the path, the label, the split and the group of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tcs_edge.errors import DataError, UsageError, advice

# Common names, in any case; the first one that the table has is taken.
DEFAULTS = {
    "path": ("path", "file", "file_name", "filename", "filepath", "image_path", "image"),
    "label": ("label", "class", "class_name", "category", "target", "cls"),
    "split": ("split", "set", "subset", "partition"),
    "group": ("group", "group_id"),
}
OPTIONAL = ("split", "group")


def given_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Return the columns that the user named, as in ["label=species"].

    Raises:
        UsageError: another form, or an unknown role.
    """
    named: dict[str, str] = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if role not in DEFAULTS or not equals or not name:
            raise UsageError(f"--column {pair!r} is not ROLE=NAME. Roles: {', '.join(DEFAULTS)}.")
        named[role] = name
    return named


def find_columns(
    origin: Path, header: Sequence[str], given: Mapping[str, str], roles: Sequence[str] = tuple(DEFAULTS)
) -> dict[str, str]:
    """Return the column of each role; a missing optional one is left out.

    Raises:
        DataError: no such column, or two of one name.
    """
    twice = [name for name in header if list(header).count(name) > 1]
    found: dict[str, str] = {}
    for role in roles:
        wanted = given.get(role)
        if wanted is not None and wanted not in header:
            raise DataError(f"{origin} has no column {wanted!r}. {advice(wanted, header)}")
        usual = [name for known in DEFAULTS[role] for name in header if name.strip().casefold() == known]
        name = wanted if wanted is not None else next(iter(usual), None)
        if name is None and role not in OPTIONAL:
            shown = ", ".join(header[:12])
            raise DataError(f"{origin} has no column for the {role}: {shown}. Pass --column {role}=NAME.")
        if name in twice:
            raise DataError(f"{origin} has two columns {name!r}. Rename one of them.")
        if name is not None:
            found[role] = name
    return found
