"""Unlabeled images for training.

The teacher computes their features in the same pass, and the student learns their coordinates.
Copies of labeled images are left out. A copy of a training image adds nothing. A copy of a val or test
image would be leakage, and so would a near copy.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tcs_edge.data.check import check_all, refuse_many
from tcs_edge.data.compact import text_order
from tcs_edge.data.find import find_unlabeled
from tcs_edge.data.images import HexTexts, ImageSet, Split
from tcs_edge.data.index import Index
from tcs_edge.data.intake_photos import IntakePhotos
from tcs_edge.data.listing import name_some
from tcs_edge.data.near_copies import near_copies_in
from tcs_edge.data.splits import numbered
from tcs_edge.errors import DataError

logger = logging.getLogger(__name__)

PART = "unlabeled"


def with_unlabeled(
    images: ImageSet,
    folder: Path,
    exclude: Sequence[str] = (),
    cache_dir: Path | None = None,
    photos: IntakePhotos | None = None,
) -> ImageSet:
    """Append every new image below `folder` to the training split of `images`, without labels.

    Args:
        folder: images at any depth, also in archives; it may contain the labeled images too.
        exclude: glob patterns on names of folders and files to leave out.
        cache_dir: folder of the store of earlier checks; default `default_cache_dir()`.
        photos: keeps the large photos that are decoded for the check.

    Raises:
        DataError: no such folder, no new image, or more than 1 % unreadable images.
    """
    listed = find_unlabeled(folder, exclude, PART)
    index, skipped = check_all(listed, cache_dir, photos)
    refuse_many(folder, skipped, len(listed))
    new = _new_ones(index, images, cache_dir)
    if not len(new):
        raise DataError(
            f"every image in {folder} is already among the labeled images, or a near copy of one in val or test. "
            "Leave --unlabeled out."
        )
    return replace(
        images,
        train=images.train.followed_by(new),
        skipped=images.skipped + skipped,
        unlabeled_fingerprint=_fingerprint(new),
    )


def only_unlabeled(folder: Path, exclude: Sequence[str] = (), cache_dir: Path | None = None) -> ImageSet:
    """Return an image set without any label: every image below `folder` is in train, without a class.

    Args:
        folder, exclude, cache_dir: as for `with_unlabeled`.

    Raises:
        DataError: no such folder, no image, or more than 1 % unreadable images.
    """
    listed = find_unlabeled(folder, exclude, PART)
    index, skipped = check_all(listed, cache_dir)
    refuse_many(folder, skipped, len(listed))
    none = index.split(np.empty(0, np.int64))
    nothing = ImageSet(listed.name, (), none, none, none, fingerprint="", skipped=skipped)
    new = _new_ones(index, nothing, cache_dir)
    return replace(nothing, train=new, unlabeled_fingerprint=_fingerprint(new))


def _new_ones(index: Index, images: ImageSet, cache_dir: Path | None) -> Split:
    """Return the images that are in no split and no near copies of val or test, without duplicates, sorted by name."""
    tables = [index.contents, *(split.content_table() for split in (images.train, images.val, images.test))]
    numbers = np.split(numbered(np.concatenate(tables)), np.cumsum([len(table) for table in tables])[:-1])
    own, train, val, test = numbers
    in_graded = np.isin(own, np.concatenate([val, test]))
    graded = np.flatnonzero(in_graded)
    if len(graded):
        named = name_some(index.names_at(graded))
        logger.warning(f"unlabeled images left out: {len(graded)} are also in val or test ({named})")
    candidates = np.flatnonzero(~in_graded & ~np.isin(own, train))
    new = np.sort(candidates[np.unique(own[candidates], return_index=True)[1]])  # the first of each content
    if copies := len(own) - len(graded) - len(new):
        logger.info(f"unlabeled images left out: {copies} are copies of each other or of training images")
    new = _without_near_copies(index, new, images, cache_dir)
    return index.split(new[text_order(index.names_at(new))])


def _without_near_copies(index: Index, new: np.ndarray, images: ImageSet, cache_dir: Path | None) -> np.ndarray:
    if images.val.sketches is None or images.test.sketches is None:
        return new
    graded = images.val.followed_by(images.test)
    pairs = near_copies_in(graded, index, new, cache_dir)
    if len(pairs):
        names = zip(index.names_at(pairs[:, 0]), pairs[:, 1].tolist(), strict=True)
        named = name_some([f"{name} ({graded.names[row]})" for name, row in names])
        logger.warning(f"unlabeled images left out: {len(pairs)} are near copies of images in val or test: {named}")
    return np.setdiff1d(new, pairs[:, 0])


def _fingerprint(images: Split) -> str:
    digest = hashlib.sha256()
    for row, (content, name) in enumerate(zip(HexTexts(images.content_table()), images.names, strict=True)):
        digest.update(("\n" if row else "").encode() + f"{content} {name}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
