"""Rows of a table as an index: one image, label, split and group each, checked as the names of folders are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from tcs_edge.data.class_names import class_name, look, lookalikes, require_visible_differences
from tcs_edge.data.compact import Texts
from tcs_edge.data.index import ALL, PARTS, Listed
from tcs_edge.data.listing import name_some, path_order
from tcs_edge.data.sources import Sources
from tcs_edge.data.split_names import split_role
from tcs_edge.errors import DataError, short

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a table.

    Attributes:
        where: place in the table, for messages, such as "row 7" or "(shard-000.tar)".
        path: path relative to the data, with forward slashes.
        split, group: empty for a table without such a column.
    """

    where: str
    path: str
    label: str
    split: str = ""
    group: str = ""


def listed_rows(origin: Path, rows: Iterable[Row], sources_of: Callable[[Sequence[str]], Sources]) -> Listed:
    """Return the index of a table's rows, in the order of a folder with the same paths.

    Args:
        origin: the table, for messages.
        sources_of: returns the images for paths.

    Raises:
        DataError: an image with two labels, splits or groups, an empty or unusable label, an unknown split, one class,
            or classes that train lacks; it names the table and the row.
    """
    found = list(_distinct(origin, rows))
    if not found:
        raise DataError(f"{origin} has no images. Write one row for each image.")
    parts = _parts(origin, found)
    of_row = [split_role(row.split, short=True) or "" for row in found] if parts != (ALL,) else [ALL] * len(found)
    of_row = ["test" if part == "eval" else part for part in of_row]
    labels = _labels(origin, found, of_row)
    order = sorted(range(len(found)), key=lambda at: (parts.index(of_row[at]), labels[at], path_order(found[at].path)))
    classes = tuple(sorted(set(labels)))
    number = {name: position for position, name in enumerate(classes)}
    paths = [found[at].path for at in order]
    return Listed(
        origin,
        classes,
        Texts.of(paths),
        sources_of(paths),
        np.array([number[labels[at]] for at in order], np.int32),
        parts,
        np.array([parts.index(of_row[at]) for at in order], np.int8),
        _groups([found[at] for at in order]),
        Texts.of(found[at].where for at in order),
    )


def _groups(rows: Sequence[Row]) -> np.ndarray | None:
    """Return a number for the group of every row, int32 (N,), or None without groups; a row without one is alone."""
    if not any(row.group for row in rows):
        return None
    number: dict[tuple[str, int], int] = {}
    keys = ((row.group, 0 if row.group else at) for at, row in enumerate(rows))
    return np.array([number.setdefault(key, len(number)) for key in keys], np.int32)


def is_excluded(path: str, patterns: Sequence[str]) -> bool:
    """Return True if a glob pattern matches the path, or the name of its file or of a folder in it, in any case."""
    names = (path.casefold(), *path.casefold().split("/"))
    globs = [pattern.casefold().removeprefix("./").rstrip("/") for pattern in patterns]
    return any(fnmatchcase(name, glob) for glob in globs for name in names)


def _distinct(origin: Path, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield one row of each image; warn about repeated rows."""
    first: dict[str, Row] = {}
    again: list[str] = []
    for row in rows:
        if not row.label:
            raise DataError(f"{origin} {row.where}: {row.path} has no label. Fill it in, or leave the image out.")
        known = first.setdefault(row.path, row)
        if known is row:
            yield row
            continue
        for what in ("label", "split", "group"):
            old, new = getattr(known, what), getattr(row, what)
            if old != new:
                raise DataError(
                    f"{origin} {row.where}: {row.path} has the {what} {new!r}, but {old!r} in {known.where}. "
                    "Keep one of the rows."
                )
        again.append(f"{row.where} ({row.path})")
    if again:
        logger.warning(f"{origin}: ignored rows that repeat an image: {len(again)} ({name_some(again)})")


def _parts(origin: Path, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the splits that the rows name, or `ALL`."""
    if not any(row.split for row in rows):
        return (ALL,)
    roles: Counter[str] = Counter()
    for row in rows:
        role = split_role(row.split, short=True)
        if role is None:
            shown = f"the split {row.split!r}" if row.split else "no split"
            raise DataError(f"{origin} {row.where}: {row.path} has {shown}. Write train, val or test.")
        roles[role] += 1
    if "eval" in roles:
        if len(roles) > 2:
            raise DataError(f"{origin}: the split eval can mean validation or test. Write val or test.")
        roles["test"] = roles.pop("eval")
    if "train" not in roles or len(roles) < 2:
        named = " and ".join(sorted(roles))
        raise DataError(f"{origin} has only the split {named}. Add rows of train and test, or remove the column.")
    return tuple(part for part in PARTS if part in roles)


def _labels(origin: Path, rows: Sequence[Row], parts: Sequence[str]) -> list[str]:
    """Return the class name of every row."""
    names: dict[str, str] = {}
    for row in rows:
        if row.label not in names:
            names[row.label] = class_name(row.label, f"{origin} {row.where}: the label {short(row.label)}")
    labels = [names[row.label] for row in rows]
    train = {label for label, part in zip(labels, parts, strict=True) if part in ("train", ALL)}
    if len(train) < 2:
        raise DataError(f"only one class, {labels[0]!r}, in {origin}. At least two are needed.")
    require_visible_differences(train, str(origin))
    for group in lookalikes(train):
        named = ", ".join(map(repr, group))
        logger.warning(f"{origin}: class names that look alike: {named}. Write one name if they are one class.")
    return _as_in_train(origin, rows, labels, train)


def _as_in_train(origin: Path, rows: Sequence[Row], labels: list[str], train: set[str]) -> list[str]:
    """Return held-out labels in train's spelling, as for folders."""
    by_look = {look(name): name for name in train} if not lookalikes(train) else {}
    for at, label in enumerate(labels):
        if label in train:
            continue
        alike = by_look.get(look(label))
        if alike is None:
            where = f"{origin} {rows[at].where}"
            raise DataError(f"{where}: {rows[at].path} has the label {label!r}, which train lacks. Add it to train.")
        labels[at] = alike
    return labels
