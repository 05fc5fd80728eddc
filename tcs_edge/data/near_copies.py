"""Near copies in a set of images: the same picture encoded again, resized, mirrored or moved by a little.

Sketches of the intake (`thumbnail.sketch`) suggest candidates, by matrix products in chunks. The candidates are decoded
and compared as `tcs-edge check` compares them. The pairs of a set are stored in the intake's file, so a second command
on the same images only reads them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcs_edge.data.compact import Chain, Compact
from tcs_edge.data.decode import Readable, decoded_bytes, open_rgb
from tcs_edge.data.images import Split
from tcs_edge.data.index import Index
from tcs_edge.data.intake import open_intake
from tcs_edge.data.parallel import map_images
from tcs_edge.data.thumbnail import SIDE_PX, gray_thumbnail, mirrored, unit_rows
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

VERSION = 3  # increase it when other pairs are found in the same images
LEAST_SIDE_PX = SIDE_PX  # of small drawings, such as digits of 28 px, some are as like as copies
LEAST_COSINE = 0.93  # of the sketches of candidates
MOST_CANDIDATES = 8  # for each image
MOST_IMAGES = 200_000  # the time grows with the square: about two minutes of a core
_PRODUCTS_AT_ONCE = 4_000_000
_PAIRS_AT_ONCE = 1024
_NONE = np.empty((0, 2), np.int64)


@dataclass(frozen=True)
class NearCopies:
    """Near copies among the contents of an index.

    Attributes:
        numbers: int64 (n,), content of every image.
        pairs: int64 (P, 2), pairs of contents.
        scenes: True if like images show one scene and are no copies (see `leaks.show_scenes`).
    """

    numbers: np.ndarray
    pairs: np.ndarray
    scenes: bool = False

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


def near_copies_in(graded: Split, index: Index, places: np.ndarray, cache_dir: Path | None = None) -> np.ndarray:
    """Find the images of an index that are near copies of images in a split with sketches, or read them from the store.

    Args:
        places: int64 (n,), positions in `index` of the images to compare.
        cache_dir: as for `near_copies`.

    Returns:
        Pairs, int64 (p, 2), of positions in `index` and in `graded`; one pair for each image that is a near copy.

    Raises:
        DataError: an image that is no longer readable.
    """
    digest = hashlib.sha256(f"near copies {VERSION} in {len(graded)}\n".encode())
    for table in (graded.content_table(), index.contents[places]):
        digest.update(np.ascontiguousarray(table).tobytes())
    with open_intake(cache_dir) as intake:
        pairs = _parsed(intake.copies(digest.digest()), max(len(graded), len(places)))
        if pairs is None:
            pairs = _searched_in(graded, index, places)
            intake.add_copies(digest.digest(), pairs.astype("<i4").tobytes())
    pairs = pairs[np.unique(pairs[:, 0], return_index=True)[1]]
    return np.stack([places[pairs[:, 0]], pairs[:, 1]], axis=1)


def _parsed(stored: bytes | None, count: int) -> np.ndarray | None:
    if stored is None or len(stored) % 8:
        return None
    pairs = np.frombuffer(stored, "<i4").reshape(-1, 2).astype(np.int64)
    return None if len(pairs) and not 0 <= pairs.min() <= pairs.max() < count else pairs


def _searched(index: Index, firsts: np.ndarray) -> np.ndarray:
    """Return the pairs of near copies among the images at `firsts`, as positions in it."""
    rows = _large(index.sizes[firsts])
    if _too_many(len(rows) ** 2):
        return _NONE
    pairs = np.concatenate([_NONE, *_candidates(unit_rows(index.sketches[firsts[rows]]))])
    copies: np.ndarray = rows[_copies(pairs, index.listed.sources.take(index.rows[firsts[rows]]))]
    return copies


def _searched_in(graded: Split, index: Index, places: np.ndarray) -> np.ndarray:
    """Return the pairs of near copies, as positions in `places` and in `graded`."""
    assert graded.sketches is not None
    assert graded.sizes is not None
    assert not isinstance(graded.sources, np.ndarray)
    rows, others = _large(index.sizes[places]), _large(graded.sizes)
    if _too_many(2 * len(rows) * len(others)):
        return _NONE
    among = unit_rows(graded.sketches[others])
    pairs = np.concatenate([_NONE, *_candidates(unit_rows(index.sketches[places[rows]]), among)])
    sources = Chain[Path | Readable]([index.listed.sources.take(index.rows[places]), graded.sources])
    chosen = np.concatenate([rows, len(places) + others])
    shift = np.array([0, len(rows)])
    pairs = _copies(pairs + shift, sources.take(chosen)) - shift
    return np.stack([rows[pairs[:, 0]], others[pairs[:, 1]]], axis=1)


def _large(sizes: np.ndarray) -> np.ndarray:
    return np.flatnonzero(sizes.min(axis=1, initial=LEAST_SIDE_PX) >= LEAST_SIDE_PX)


def _too_many(products: int) -> bool:
    if products > MOST_IMAGES**2:
        logger.warning(f"near copies: not searched among more than {MOST_IMAGES:,} images")
    return products > MOST_IMAGES**2


def _candidates(rows: np.ndarray, among: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield pairs of like rows, int64 (P, 2), the first one before the second; or of a row and one in `among`."""
    others = rows if among is None else among
    turned = mirrored(others)
    step = max(1, _PRODUCTS_AT_ONCE // max(1, len(others)))
    starts = range(0, len(rows), step)
    for start in track(starts, "Comparing images", total=len(starts)) if len(starts) > 1 else starts:
        here, later = rows[start : start + step], start if among is None else 0
        cosine = here @ others[later:].T
        np.maximum(cosine, here @ turned[later:].T, out=cosine)
        if among is None:
            cosine[np.tril_indices(len(here), 0, cosine.shape[1])] = -1
        many = np.flatnonzero((cosine >= LEAST_COSINE).sum(axis=1) > MOST_CANDIDATES)
        for row in many.tolist():
            cosine[row, np.argpartition(-cosine[row], MOST_CANDIDATES)[MOST_CANDIDATES:]] = -1
        yield np.argwhere(cosine >= LEAST_COSINE) + np.array([start, later])


def _copies(pairs: np.ndarray, sources: Compact[Path | Readable]) -> np.ndarray:
    """Return those of `pairs`, int64 (P, 2), whose images are near copies."""
    if not len(pairs):
        return pairs
    rows, places = np.unique(pairs, return_inverse=True)
    seen = sources.take(rows)
    copies: np.ndarray = pairs[_confirmed(_thumbnails(seen), places.reshape(-1, 2), seen)]
    return copies


def _thumbnails(sources: Sequence[Path | Readable]) -> np.ndarray:
    """Decode images; return their thumbnails, uint8 (n, 32, 32)."""
    gray = np.empty((len(sources), SIDE_PX, SIDE_PX), np.uint8)
    decoded = map_images(
        lambda row: gray_thumbnail(open_rgb(sources[row])), range(len(sources)), lambda row: decoded_bytes(sources[row])
    )
    with closing(decoded) as found:
        for row, small in enumerate(track(found, "Looking at alike images", total=len(sources))):
            gray[row] = small
    return gray


def _confirmed(gray: np.ndarray, pairs: np.ndarray, sources: Sequence[Path | Readable]) -> np.ndarray:
    """Return True, bool (P,), for the pairs of thumbnails of which one is a copy of the other."""
    from tcs_edge.data import detail  # scipy takes a while to import
    from tcs_edge.data.windows import COPY, WINDOWS, best_windows, compare

    copies = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        for turned in (pairs[part], pairs[part, ::-1]):
            one, other = (gray[turned[:, side]].astype(np.float32) for side in (0, 1))
            compared = compare(one, other, best_windows(one, other, WINDOWS), WINDOWS)
            distance = detail.settled(compared, turned, lambda row: open_rgb(sources[row], detail.SIDE_PX))
            copies[part] |= distance <= COPY
    return copies
