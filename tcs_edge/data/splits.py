"""Stratified, seeded splits that keep copies of an image together.

Copies are images with the same bytes. A copy in train of a test image would make the test accuracy
too high, since the student has seen the image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from tcs_edge.errors import DataError

HELD_OUT_FRACTION = 0.1


def draw_splits(
    labels: Sequence[int],
    contents: Sequence[str],
    classes: Sequence[str],
    held_out: Sequence[str],
    seed: int,
) -> dict[str, list[int]]:
    """Draw `HELD_OUT_FRACTION` of every class for each split in `held_out`; train keeps the rest.

    Every split has every class. Copies with the same label share a split. Copies with conflicting
    labels go to train, because accuracy on them has no meaning.

    Args:
        labels, contents: class position and content sha256 of every image.
        held_out: names of the splits to draw, such as ("test", "val").

    Returns:
        Sorted positions for "train" and for each name in `held_out`; together they cover all images.

    Raises:
        DataError: a class has fewer distinct images than there are splits.
    """
    disputed = conflicting(labels, contents)
    parts: dict[str, list[int]] = {"train": [], **{name: [] for name in held_out}}
    for label, name in enumerate(classes):
        rows = [row for row, came in enumerate(labels) if came == label]
        parts["train"] += [row for row in rows if contents[row] in disputed]
        groups = _groups([row for row in rows if contents[row] not in disputed], contents)
        _require_enough(name, len(groups), len(held_out) + 1)
        for part, drawn in _draw_class(groups, held_out, np.random.default_rng([seed, label])).items():
            parts[part] += drawn
    return {part: sorted(rows) for part, rows in parts.items()}


def conflicting(labels: Sequence[Hashable], contents: Sequence[str]) -> set[str]:
    """Return the contents that occur with more than one label."""
    seen: dict[str, set[Hashable]] = defaultdict(set)
    for label, content in zip(labels, contents, strict=True):
        seen[content].add(label)
    return {content for content, found in seen.items() if len(found) > 1}


def _groups(rows: list[int], contents: Sequence[str]) -> list[list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        groups[contents[row]].append(row)
    return list(groups.values())


def _require_enough(name: str, came: int, needed: int) -> None:
    if came < needed:
        raise DataError(
            f"class {name!r} is too small to split: {came} distinct images, {needed} are needed. "
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
