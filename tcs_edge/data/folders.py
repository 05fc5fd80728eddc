"""Loading of images: list, check every image once, split, and warn about leakage.

Missing splits are drawn by these rules:

- One folder per class: 80 % train, 10 % val, 10 % test of every class.
- train/ and one of val/ and test/: the held-out folder becomes test under either name, so that
  nothing is tuned on it. The split val is 10 % of train.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from tcs_edge.data.check import check_all, refuse_many
from tcs_edge.data.columns import given_columns
from tcs_edge.data.find import find
from tcs_edge.data.images import HexTexts, ImageSet, Skipped, Split, fingerprint
from tcs_edge.data.index import ALL, PARTS, Index, Listed
from tcs_edge.data.intake_photos import IntakePhotos
from tcs_edge.data.leaks import report_leaks, without_scenes
from tcs_edge.data.listing import name_some
from tcs_edge.data.near_copies import NearCopies, near_copies
from tcs_edge.data.splits import disputed_rows, draw_splits, numbered
from tcs_edge.errors import DataError

logger = logging.getLogger(__name__)


def load_data(
    data: Path,
    seed: int = 0,
    exclude: Sequence[str] = (),
    cache_dir: Path | None = None,
    columns: Sequence[str] = (),
    allow_leaks: bool = True,
    photos: IntakePhotos | None = None,
) -> ImageSet:
    """Load `data` as train, val and test; decode every new or changed image once to check it.

    Args:
        data: as for `find.find`.
        exclude: glob patterns on names of folders and files to leave out.
        cache_dir: folder of the store of earlier checks; default `default_cache_dir()`.
        columns: names of a table's columns, as in ["label=species"].
        allow_leaks: False refuses images that are in the user's train and test; True warns about them.
        photos: keeps the large photos that are decoded for the check.

    Raises:
        DataError: see `find.find`; or more than 1 % of the images cannot be read, or a class
            is too small to split, or images are in train and in test.
        MissingError, UsageError: as `find.find`.
    """
    return load_listed(find(data, exclude, given_columns(columns)), seed, cache_dir, allow_leaks, photos)


def load_listed(
    listed: Listed,
    seed: int,
    cache_dir: Path | None = None,
    allow_leaks: bool = True,
    photos: IntakePhotos | None = None,
) -> ImageSet:
    """Check the images of a reader, and return them as train, val and test.

    Raises:
        DataError: as `load_data`.
    """
    index, skipped = check_all(listed, cache_dir, photos)
    refuse_many(listed.origin, skipped, len(listed))
    _require_every_class(index)
    numbers = numbered(index.contents)
    _warn_conflicts(index, numbers)
    near = without_scenes(index, near_copies(index, numbers, cache_dir))
    places = _complete(index, near, seed)
    # A drawn split divides near copies only where a class has nothing else, so nobody can mend it.
    leaked = report_leaks(index, near, places, allow_leaks or ALL in listed.parts)
    _warn_divided_groups(index, places)
    return replace(_image_set(index, places, skipped, with_sketches=not near.scenes), test_copies=leaked)


def load_held_out(
    folder: Path, exclude: Sequence[str] = (), cache_dir: Path | None = None
) -> tuple[tuple[str, ...], Split]:
    """Load the classes of `folder` and its images for evaluating a finished model, each decoded once.

    The images are those in test/, else those in val/, else all images of a folder without splits.

    Args:
        folder: any data, as for `find.find`.
        exclude: glob patterns on names of folders and files to leave out.
        cache_dir: as for `load_data`.

    Raises:
        DataError, MissingError: see `find.find`; DataError if more than 1 % of the images cannot be read.
    """
    listed = find(folder, exclude)
    held_out = listed.only(next(name for name in ("test", "val", ALL) if name in listed.parts))
    index, skipped = check_all(held_out, cache_dir)
    refuse_many(folder, skipped, len(held_out))
    return listed.classes, index.split(np.arange(len(index.rows)))


def _require_every_class(index: Index) -> None:
    for part in (part for part in (ALL, "train") if part in index.listed.parts):
        present = np.bincount(index.labels[index.places_of(part)], minlength=len(index.listed.classes))
        for label in np.flatnonzero(present == 0)[:1]:
            name = index.listed.classes[label]
            raise DataError(f"class {name!r} has no readable images. Replace them or remove the class.")


def _warn_conflicts(index: Index, numbers: np.ndarray) -> None:
    disputed = np.flatnonzero(disputed_rows(index.labels.astype(np.int64), numbers))
    if len(disputed):
        named = name_some(index.names_at(disputed))
        logger.warning(f"identical images with different labels: {len(disputed)} ({named})")


def _complete(index: Index, near: NearCopies, seed: int) -> dict[str, np.ndarray]:
    """Return the positions of train, val and test; draw the splits that the data lacks by the rules of this module."""
    parts = index.listed.parts
    if ALL in parts:
        return _draw(index, index.places_of(ALL), near, ("test", "val"), seed)
    if set(parts) == set(PARTS):
        return {part: index.places_of(part) for part in PARTS}
    held_out = "test" if "test" in parts else "val"
    drawn = _draw(index, index.places_of("train"), near, ("val",), seed)
    test = index.places_of(held_out)
    logger.info(
        f"splits: {held_out}/ is used as test ({len(test)} images), "
        f"val is drawn from train ({len(drawn['val'])} images)"
    )
    return {**drawn, "test": test}


def _draw(
    index: Index, places: np.ndarray, near: NearCopies, held_out: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """Draw splits that keep near copies together, or only equal images if a class would be too small for that."""
    labels, classes = index.labels[places], index.listed.classes
    groups = None if index.groups is None else index.groups[places]
    units = near.joined()
    try:
        rows = draw_splits(labels, units[places], classes, held_out, seed, groups)
    except DataError as error:
        if not len(near.pairs):
            raise
        rows = draw_splits(labels, near.numbers[places], classes, held_out, seed, groups)
        logger.warning(f"drawn splits divide near copies: {error}")
    return {part: places[chosen] for part, chosen in rows.items()}


def _warn_divided_groups(index: Index, places: dict[str, np.ndarray]) -> None:
    """Warn about groups on both sides of the user's own splits; drawn splits divide none."""
    groups = index.groups
    if groups is None:
        return
    for seen, graded in combinations(PARTS, 2):
        shared = np.isin(groups[places[graded]], groups[places[seen]])
        if shared.any():
            named = name_some(index.names_at(places[graded][shared]))
            logger.warning(
                f"leakage: {int(shared.sum())} images of {graded} are of groups that {seen} has too: {named}. "
                f"Results on {graded} will be too optimistic. Keep each group in one split."
            )


def _image_set(
    index: Index, places: dict[str, np.ndarray], skipped: tuple[Skipped, ...], with_sketches: bool
) -> ImageSet:
    classes = index.listed.classes
    train, val, test = (index.split(places[part], with_sketches and part != "train") for part in PARTS)
    contents = [HexTexts(split.content_table()) for split in (train, val, test)]
    mark = fingerprint(classes, zip((train, val, test), contents, strict=True))
    return ImageSet(index.listed.name, classes, train, val, test, fingerprint=mark, skipped=skipped)
