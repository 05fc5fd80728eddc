"""Search for copies: the same bytes, and near copies that were encoded again, resized, mirrored or cropped.

Candidates come from matrix products in chunks, so memory does not grow with the square of the number of images. Each
candidate is then compared under moved windows (`windows.compare`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from tcs_edge.check.images import CheckedImages
from tcs_edge.data.detail import SIDE_PX, settled
from tcs_edge.data.leaks import show_scenes
from tcs_edge.data.splits import numbered
from tcs_edge.data.windows import COPY, MIRRORED, SMALL_WINDOWS, WINDOWS, best_windows, compare, described
from tcs_edge.utils.progress import track

CopyKind = Literal["same bytes", "near copy"]

MOST_FOR_CROPS = 20_000  # images among which crops are searched without features; the time grows with the square
LEAST_SIDE_PX = 16
LEAST_COSINE = 0.6  # of a candidate
_NEAREST = 2  # candidates for each image, and one more in another split
_PRODUCTS_AT_ONCE = 4_000_000  # numbers of one chunk
_PAIRS_AT_ONCE = 1024


@dataclass(frozen=True)
class CopyPair:
    """Two images that are copies of each other.

    Attributes:
        first, second: positions of the images.
        distance: 0 for the same bytes, up to `windows.COPY` for a near copy.
    """

    first: int
    second: int
    kind: CopyKind
    distance: float


def find_copies(
    checked: CheckedImages, gray: np.ndarray, features: np.ndarray | None = None, sides: np.ndarray | None = None
) -> list[CopyPair]:
    """Find pairs of copies, pairs in two splits first, then by distance.

    Each image of a group of equal files is paired with the first of its group and, in another split, with the first
    there.

    Args:
        gray: thumbnails, uint8 (N, 32, 32).
        features: of a teacher, (N, d), which suggest more candidates, such as small crops.
        sides: shorter side of each image in pixels, (N,). Images below `LEAST_SIDE_PX` have too few pixels for near
            copies, so only their bytes count; None compares all.
    """
    contents = numbered(checked.all.content_table())
    members = _members(contents)
    compared = [rows for rows in members if sides is None or sides[rows[0]] >= LEAST_SIDE_PX]
    firsts = np.array([rows[0] for rows in compared], np.int64)
    small = gray if len(firsts) == len(gray) else gray[firsts]
    near: dict[tuple[int, int], float] = {}
    for pairs, windows in _candidates(small, checked.part[firsts], features, firsts) if len(firsts) else ():
        for (one, other), distance in _distances(
            small, pairs, windows, lambda row: checked.all.image(int(firsts[row]), SIDE_PX)
        ):
            key = (min(one, other), max(one, other))
            near[key] = min(distance, near.get(key, np.inf))
    found = [pair for rows in members if len(rows) > 1 for pair in _equal(rows, checked.part)]
    for (one, other), distance in near.items():
        if distance <= COPY:
            for first, second in _across(compared[one], compared[other], checked.part):
                found.append(CopyPair(first, second, "near copy", round(distance, 3)))
    part = checked.part
    return sorted(found, key=lambda pair: (part[pair.first] == part[pair.second], pair.distance, pair.first))


def find_leaks(checked: CheckedImages, copies: Sequence[CopyPair]) -> list[CopyPair]:
    """Return the copies in train and in test; near copies do not count if they show one scene."""
    near = [(pair.first, pair.second) for pair in copies if pair.kind == "near copy"]
    scenes = show_scenes(np.array(near, np.int64).reshape(-1, 2), checked.labels)
    return [
        pair
        for pair in copies
        if {checked.part_name(pair.first), checked.part_name(pair.second)} == {"train", "test"}
        and not (scenes and pair.kind == "near copy")
    ]


def _members(contents: np.ndarray) -> list[list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for row, content in enumerate(contents.tolist()):
        members[content].append(row)
    return list(members.values())


def _first_of_parts(rows: Iterable[int], part: np.ndarray) -> list[int]:
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(int(part[row]), row)
    return list(first.values())


def _equal(rows: list[int], part: np.ndarray) -> Iterator[CopyPair]:
    heads = _first_of_parts(rows, part)
    for row in rows[1:]:
        others = [head for head in heads if part[head] != part[row] and head < row] or [rows[0]]
        for other in others:
            yield CopyPair(other, row, "same bytes", 0.0)


def _across(first: list[int], second: list[int], part: np.ndarray) -> list[tuple[int, int]]:
    """Return one pair for every two splits that two contents are in, or the first pair of one split."""
    heads = [(a, b) for a in _first_of_parts(first, part) for b in _first_of_parts(second, part)]
    across = [(a, b) for a, b in heads if part[a] != part[b]]
    return [(min(pair), max(pair)) for pair in across or heads[:1]]


Candidates = tuple[np.ndarray, np.ndarray]


def _candidates(
    gray: np.ndarray, part: np.ndarray, features: np.ndarray | None, firsts: np.ndarray
) -> Iterator[tuple[Candidates, np.ndarray]]:
    """Yield the positions of pairs to compare, with the windows of the first image to start with."""
    windows = WINDOWS if len(gray) <= MOST_FOR_CROPS else WINDOWS[:1]
    yield _by_windows(gray, part, windows), windows
    if features is not None:
        rows = features[firsts].astype(np.float32)
        rows -= rows.mean(axis=0)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
        yield _by_features(rows, part), SMALL_WINDOWS


def _by_windows(gray: np.ndarray, part: np.ndarray, windows: np.ndarray) -> Candidates:
    count = len(gray)
    step = max(1, _PRODUCTS_AT_ONCE // count)
    whole = np.concatenate(
        [described(gray[start : start + _PAIRS_AT_ONCE]) for start in range(0, count, _PAIRS_AT_ONCE)]
    )
    found: list[Candidates] = []
    for start in track(range(0, count, step), "Comparing images", total=-(-count // step)):
        rows = np.arange(start, min(start + step, count))
        best = np.full((len(rows), count), -1, np.float32)
        for mirrored, some in ((False, windows), (True, windows[:MIRRORED])):
            for window in some:
                np.maximum(best, described(gray[rows], window, mirrored) @ whole.T, out=best)
        at, other = _nearest(best, rows, part, LEAST_COSINE)
        found.append((rows[at], other))
    return _joined(found)


def _by_features(rows: np.ndarray, part: np.ndarray) -> Candidates:
    count = len(rows)
    step = max(1, _PRODUCTS_AT_ONCE // count)
    found: list[Candidates] = []
    for start in range(0, count, step):
        here = np.arange(start, min(start + step, count))
        at, other = _nearest(rows[here] @ rows.T, here, part, 0.5)
        found.append((here[at], other))
    return _joined(found)


def _joined(found: list[Candidates]) -> Candidates:
    first, second = (np.concatenate(part) for part in zip(*found, strict=True))
    return first, second


def _nearest(cosine: np.ndarray, rows: np.ndarray, part: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest images of each row, and the nearest in another split, as (row of `cosine`, position)."""
    cosine[np.arange(len(rows)), rows] = -1
    most = min(_NEAREST, cosine.shape[1] - 1)
    if most < 1:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    at = np.repeat(np.arange(len(rows)), most)
    other = np.argpartition(-cosine, most - 1, axis=1)[:, :most].ravel()
    elsewhere = np.where(part[None] == part[rows][:, None], -1, cosine)
    at = np.concatenate([at, np.arange(len(rows))])
    other = np.concatenate([other, elsewhere.argmax(axis=1)])
    pairs = np.unique(np.stack([at, other], axis=1), axis=0)
    pairs = pairs[cosine[pairs[:, 0], pairs[:, 1]] >= least]
    return pairs[:, 0], pairs[:, 1]


def _distances(
    gray: np.ndarray, candidates: Candidates, windows: np.ndarray, image: Callable[[int], Image.Image]
) -> Iterator[tuple[tuple[int, int], float]]:
    first, second = candidates
    chunks = range(0, len(first), _PAIRS_AT_ONCE)
    for start in track(chunks, "Comparing candidates", total=len(chunks)):
        part = slice(start, start + _PAIRS_AT_ONCE)
        one, other = (gray[rows[part]].astype(np.float32) for rows in (first, second))
        compared = compare(one, other, best_windows(one, other, windows), windows)
        distance = settled(compared, np.stack([first[part], second[part]], axis=1), image)
        yield from zip(
            zip(first[part].tolist(), second[part].tolist(), strict=True), distance.tolist(), strict=True
        )  # fmt: skip
