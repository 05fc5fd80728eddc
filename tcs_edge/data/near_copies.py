"""Near copies in a set of images: the same picture encoded again, resized, mirrored or moved by a little.

Sketches of the intake (`thumbnail.sketch`) suggest candidates, by matrix products in chunks. The candidates are decoded
and compared as `tcs-edge check` compares them. The pairs of a set are stored in the intake's file, so a second command
on the same images only reads them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcs_edge.data.decode import decoded_bytes, open_rgb
from tcs_edge.data.index import Index
from tcs_edge.data.intake import open_intake
from tcs_edge.data.parallel import map_images
from tcs_edge.data.sources import Sources
from tcs_edge.data.thumbnail import SIDE_PX, gray_thumbnail, mirrored, unit_rows
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

VERSION = 2  # increase it when other pairs are found in the same images
LEAST_SIDE_PX = SIDE_PX  # of small drawings, such as digits of 28 px, some are as like as copies
LEAST_COSINE = 0.93  # of the sketches of candidates
MOST_CANDIDATES = 8  # for each image
MOST_IMAGES = 200_000  # the time grows with the square: about two minutes of a core
_PRODUCTS_AT_ONCE = 4_000_000
_PAIRS_AT_ONCE = 1024


@dataclass(frozen=True)
class NearCopies:
    """Near copies among the contents of an index.

    Attributes:
        numbers: int64 (n,), content of every image.
        pairs: int64 (P, 2), pairs of contents.
    """

    numbers: np.ndarray
    pairs: np.ndarray

    def joined(self) -> np.ndarray:
        """Return a number for each image, int64 (n,), equal for equal contents and for chains of near copies."""
        if not len(self.pairs):
            return self.numbers
        from scipy.sparse import coo_array  # imported here: most sets have no near copies
        from scipy.sparse.csgraph import connected_components

        size = int(self.numbers.max()) + 1
        links = coo_array((np.ones(len(self.pairs), bool), self.pairs.T), shape=(size, size))
        found: np.ndarray = connected_components(links, directed=False)[1][self.numbers].astype(np.int64)
        return found

    def across(self, seen: np.ndarray, graded: np.ndarray) -> np.ndarray:
        """Return the pairs of positions, int64 (p, 2), with the first image in `seen`, a near copy of one in `graded`.

        Each image in `graded` is in one pair at most.
        """
        first: dict[int, int] = {}
        for place in seen.tolist():
            first.setdefault(int(self.numbers[place]), place)
        of: dict[int, int] = {}
        for one, other in self.pairs.tolist():
            for here, there in ((one, other), (other, one)):
                if there in first:
                    of.setdefault(here, first[there])
        found = [(of[number], place) for place in graded.tolist() if (number := int(self.numbers[place])) in of]
        return np.array(found, np.int64).reshape(-1, 2)


def near_copies(index: Index, numbers: np.ndarray, cache_dir: Path | None = None) -> NearCopies:
    """Find the near copies of a set, or read them from an earlier command.

    Args:
        numbers: int64 (n,), content of every image, as from `splits.numbered`.
        cache_dir: folder of the store; default `default_cache_dir()`.

    Raises:
        DataError: an image that is no longer readable.
    """
    firsts = np.unique(numbers, return_index=True)[1]
    digest = hashlib.sha256(f"near copies {VERSION}\n".encode())
    digest.update(np.ascontiguousarray(index.contents[firsts]).tobytes())
    with open_intake(cache_dir) as intake:
        stored = intake.copies(digest.digest())
        pairs = _parsed(stored, len(firsts))
        if pairs is None:
            pairs = _searched(index, firsts)
            intake.add_copies(digest.digest(), pairs.astype("<i4").tobytes())
    return NearCopies(numbers, pairs)


def _parsed(stored: bytes | None, count: int) -> np.ndarray | None:
    if stored is None or len(stored) % 8:
        return None
    pairs = np.frombuffer(stored, "<i4").reshape(-1, 2).astype(np.int64)
    return None if len(pairs) and not 0 <= pairs.min() <= pairs.max() < count else pairs


def _searched(index: Index, firsts: np.ndarray) -> np.ndarray:
    compared = np.flatnonzero(index.sizes[firsts].min(axis=1, initial=LEAST_SIDE_PX) >= LEAST_SIDE_PX)
    none = np.empty((0, 2), np.int64)
    if len(compared) > MOST_IMAGES:
        logger.warning(f"near copies: not searched among more than {MOST_IMAGES:,} images")
        return none
    pairs = np.concatenate([*_candidates(unit_rows(index.sketches[firsts[compared]])), none])
    if not len(pairs):
        return none
    rows, places = np.unique(pairs, return_inverse=True)
    sources = index.listed.sources.take(index.rows[firsts[compared[rows]]])
    copies: np.ndarray = compared[pairs[_confirmed(_thumbnails(sources), places.reshape(-1, 2), sources)]]
    return copies


def _candidates(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pairs of like rows, int64 (P, 2), the first one before the second."""
    count, turned = len(rows), mirrored(rows)
    step = max(1, _PRODUCTS_AT_ONCE // max(1, count))
    starts = range(0, count, step)
    for start in track(starts, "Comparing images", total=len(starts)) if len(starts) > 1 else starts:
        here = rows[start : start + step]
        cosine = here @ rows[start:].T
        np.maximum(cosine, here @ turned[start:].T, out=cosine)
        cosine[np.tril_indices(len(here), 0, cosine.shape[1])] = -1
        many = np.flatnonzero((cosine >= LEAST_COSINE).sum(axis=1) > MOST_CANDIDATES)
        for row in many.tolist():
            cosine[row, np.argpartition(-cosine[row], MOST_CANDIDATES)[MOST_CANDIDATES:]] = -1
        yield np.argwhere(cosine >= LEAST_COSINE) + start


def _thumbnails(sources: Sources) -> np.ndarray:
    """Decode images; return their thumbnails, uint8 (n, 32, 32)."""
    gray = np.empty((len(sources), SIDE_PX, SIDE_PX), np.uint8)
    decoded = map_images(
        lambda row: gray_thumbnail(open_rgb(sources[row])), range(len(sources)), lambda row: decoded_bytes(sources[row])
    )
    with closing(decoded) as found:
        for row, small in enumerate(track(found, "Looking at alike images", total=len(sources))):
            gray[row] = small
    return gray


def _confirmed(gray: np.ndarray, pairs: np.ndarray, sources: Sources) -> np.ndarray:
    """Return True, bool (P,), for the pairs of thumbnails of which one is a copy of the other."""
    from tcs_edge.data.detail import settled  # scipy takes a while to import
    from tcs_edge.data.windows import COPY, WINDOWS, best_windows, compare

    copies = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        for turned in (pairs[part], pairs[part, ::-1]):
            one, other = (gray[turned[:, side]].astype(np.float32) for side in (0, 1))
            compared = compare(one, other, best_windows(one, other, WINDOWS), WINDOWS)
            copies[part] |= settled(compared, turned, lambda row: open_rgb(sources[row])) <= COPY
    return copies
