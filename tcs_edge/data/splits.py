"""Stratified, seeded splits that keep copies of an image together.

Copies are images with the same bytes. A copy in train of a test image would make the test accuracy
too high, since the student has seen the image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np

from tcs_edge.errors import DataError

HELD_OUT_FRACTION = 0.1


def draw_splits(
    labels: Sequence[int] | np.ndarray,
    contents: Sequence[Hashable] | np.ndarray,
    classes: Sequence[str],
    held_out: Sequence[str],
    seed: int,
    groups: Sequence[Hashable] | np.ndarray | None = None,
) -> dict[str, list[int]]:
    """Draw `HELD_OUT_FRACTION` of every class for each split in `held_out`; train keeps the rest.

    Every split has every class. Copies with the same label share a split, and so do images of one group. Copies with
    conflicting labels go to train, because accuracy on them has no meaning.

    Args:
        labels, contents: class position and content of every image; contents as for `numbered`.
        held_out: names of the splits to draw, such as ("test", "val").
        groups: group of every image, such as its patient; None for no groups.

    Returns:
        Sorted positions for "train" and for each name in `held_out`; together they cover all images.

    Raises:
        DataError: a class has fewer distinct images, or fewer groups, than there are splits.
    """
    label_of, numbers = np.asarray(labels, np.int64), numbered(contents)
    disputed = disputed_rows(label_of, numbers)
    if groups is not None:
        return draw_groups(label_of, joined(numbers, numbered(groups)), disputed, classes, held_out, seed)
    parts: dict[str, list[np.ndarray]] = {"train": [np.flatnonzero(disputed)], **{name: [] for name in held_out}}
    for label, rows in enumerate(rows_by_value(label_of, len(classes))):
        copies = _groups(rows[~disputed[rows]], numbers)
        _require_enough(classes[label], len(copies), len(held_out) + 1)
        for part, drawn in _draw_class(copies, held_out, np.random.default_rng([seed, label])).items():
            parts[part].append(np.array(drawn, np.int64))
    return {part: np.sort(np.concatenate(rows)).tolist() for part, rows in parts.items()}


def joined(numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return a number for each image, int64 (N,), equal for images that are linked by equal numbers or equal others."""
    from scipy.sparse import coo_array  # imported here: most sets have no groups
    from scipy.sparse.csgraph import connected_components

    first = int(numbers.max(initial=-1)) + 1
    size = first + int(others.max(initial=-1)) + 1
    links = coo_array((np.ones(len(numbers), bool), (numbers, first + others)), shape=(size, size))
    components: np.ndarray = connected_components(links, directed=False)[1][numbers].astype(np.int64)
    return components


def draw_groups(
    labels: np.ndarray,
    units: np.ndarray,
    disputed: np.ndarray,
    classes: Sequence[str],
    held_out: Sequence[str],
    seed: int,
) -> dict[str, list[int]]:
    """Draw about `HELD_OUT_FRACTION` of every class for each split in `held_out`, without dividing a unit.

    Units are drawn in random order, small ones first. A unit joins a split that comes closer to its number of images
    of every class by it. The last units of a class stay in train.

    Args:
        labels, units: int64 (N,), class and unit of every image; a unit may have several classes.
        disputed: bool (N,); units with such an image go to train.

    Raises:
        DataError: a class has fewer units than there are splits, or a split lacks a class.
    """
    units = np.unique(units, return_inverse=True)[1]
    counts = np.zeros((int(units.max(initial=-1)) + 1, len(classes)), np.int64)
    np.add.at(counts, (units, labels), 1)
    free = np.ones(len(counts), bool)
    free[units[disputed]] = False
    for label, name in enumerate(classes):
        _require_enough(name, int((counts[free, label] > 0).sum()), len(held_out) + 1, "groups of images")
    targets = np.maximum(1, np.round(HELD_OUT_FRACTION * counts[free].sum(axis=0)).astype(np.int64))
    order = np.random.default_rng(seed).permutation(np.flatnonzero(free))
    order = order[counts[order].sum(axis=1).argsort(kind="stable")]
    home = np.zeros(len(counts), np.int64)  # 0 is train
    left = (counts[order] > 0).sum(axis=0)  # units of each class that train still has
    for number, part in enumerate(held_out, start=1):
        drawn = np.zeros(len(classes), np.int64)
        splits_left = len(held_out) - number + 1
        for unit in order[home[order] == 0].tolist():
            own = counts[unit] > 0
            closer = np.abs(targets - drawn - counts[unit]).sum() < np.abs(targets - drawn).sum()
            needed = (drawn[own] == 0).any()
            if (closer or needed) and (left[own] > splits_left).all():
                home[unit], drawn, left = number, drawn + counts[unit], left - own
        for label in np.flatnonzero(drawn == 0)[:1]:
            raise DataError(
                f"class {classes[label]!r} has no group of images that {part} can take whole. Add groups, or divide "
                "the images yourself in a column for the split."
            )
    parts = {name: np.flatnonzero(home[units] == number) for number, name in enumerate(("train", *held_out))}
    return {part: rows.tolist() for part, rows in parts.items()}


def numbered(contents: Sequence[Hashable] | np.ndarray) -> np.ndarray:
    """Return a number for each content, int64 (N,), equal for equal contents.

    Args:
        contents: hashable values, numbers int64 (N,), or hashes as uint8 (N, bytes).
    """
    if isinstance(contents, np.ndarray):
        if contents.ndim == 1:
            return np.unique(contents, return_inverse=True)[1].astype(np.int64)
        if not len(contents):
            return np.empty(0, np.int64)
        keys = np.ascontiguousarray(contents).view(f"V{contents.shape[1]}").ravel()
        return np.unique(keys, return_inverse=True)[1].astype(np.int64)
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(content, len(known)) for content in contents], np.int64)


def disputed_rows(labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return True, bool (N,), for images whose content occurs with more than one label.

    Args:
        labels, numbers: int64 (N,), labels and the numbers of the contents.
    """
    count = int(numbers.max(initial=-1)) + 1
    least, most = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(least, numbers, labels)
    np.maximum.at(most, numbers, labels)
    disputed: np.ndarray = (least != most)[numbers]
    return disputed


def rows_by_value(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the positions, ascending, of each value 0 to count - 1 in `values`, int64 (N,), in one pass."""
    order = values.argsort(kind="stable")
    ends = np.searchsorted(values[order], np.arange(count + 1))
    return [order[start:end] for start, end in pairwise(ends)]


def conflicting(labels: Sequence[Hashable], contents: Sequence[str]) -> set[str]:
    """Return the contents that occur with more than one label."""
    seen: dict[str, set[Hashable]] = defaultdict(set)
    for label, content in zip(labels, contents, strict=True):
        seen[content].add(label)
    return {content for content, found in seen.items() if len(found) > 1}


def _groups(rows: np.ndarray, numbers: np.ndarray) -> list[list[int]]:
    """Return the rows of each content, in the order in which the contents first occur."""
    groups: dict[int, list[int]] = defaultdict(list)
    for row, number in zip(rows.tolist(), numbers[rows].tolist(), strict=True):
        groups[number].append(row)
    return list(groups.values())


def _require_enough(name: str, came: int, needed: int, units: str = "distinct images") -> None:
    if came < needed:
        raise DataError(
            f"class {name!r} is too small to split: {came} {units}, {needed} are needed. "
            "Add images, or remove the class."
        )


def _draw_class(groups: list[list[int]], held_out: Sequence[str], rng: np.random.Generator) -> dict[str, list[int]]:
    target = max(1, round(HELD_OUT_FRACTION * sum(map(len, groups))))
    # Smallest groups first: otherwise copies of a single image could fill a held-out split.
    queue = sorted((groups[row] for row in rng.permutation(len(groups))), key=len)
    parts: dict[str, list[int]] = {}
    for done, name in enumerate(held_out):
        splits_left = len(held_out) - done
        drawn = list(queue.pop(0))
        while len(drawn) < target and len(queue) > splits_left:
            drawn += queue.pop(0)
        parts[name] = drawn
    parts["train"] = [row for group in queue for row in group]
    return parts
