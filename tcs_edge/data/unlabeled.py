"""Unlabeled images for training.

The teacher computes their features in the same pass, and the student learns their coordinates.
Copies of labeled images are left out. A copy of a training image adds nothing. A copy of a val or test
image would be leakage.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tcs_edge.data.folders import Checked, check_all, refuse_many
from tcs_edge.data.images import ImageSet
from tcs_edge.data.layout import Found, find_files
from tcs_edge.data.listing import name_some
from tcs_edge.errors import DataError

logger = logging.getLogger(__name__)

PART = "unlabeled"


def with_unlabeled(images: ImageSet, folder: Path, exclude: Sequence[str] = ()) -> ImageSet:
    """Append every new image below `folder` to the training split of `images`, without labels.

    Args:
        folder: images at any depth; it may contain the labeled images too.
        exclude: glob patterns on names of folders and files to leave out.

    Raises:
        DataError: no such folder, no new image, or more than 1 % unreadable images.
    """
    listed = {PART: [Found(path, _name(path, folder), "") for path in find_files(folder, exclude)]}
    checked, skipped = check_all(listed)
    refuse_many(folder, skipped, len(listed[PART]))
    new = _new_ones(checked[PART], images)
    if not new:
        raise DataError(f"every image in {folder} is already among the labeled images. Leave --unlabeled out.")
    train = images.train.followed_by([one.found.path for one in new], [one.found.name for one in new])
    return replace(
        images, train=train, skipped=images.skipped + skipped, unlabeled_fingerprint=_fingerprint(new)
    )  # fmt: skip


def _name(path: Path, folder: Path) -> str:
    return f"{PART}/{path.relative_to(folder).as_posix()}"


def _new_ones(candidates: Sequence[Checked], images: ImageSet) -> list[Checked]:
    """Return the candidates whose bytes are not in any split, without duplicates."""
    parts = {"train": images.train, "val": images.val, "test": images.test}
    home = {split.content_sha256(row): part for part, split in parts.items() for row in range(len(split))}
    graded = [one.found.name for one in candidates if home.get(one.content) in ("val", "test")]
    if graded:
        logger.warning(f"unlabeled images left out: {len(graded)} are also in val or test ({name_some(graded)})")
    new = {one.content: one for one in reversed(candidates) if one.content not in home}
    if copies := len(candidates) - len(graded) - len(new):
        logger.info(f"unlabeled images left out: {copies} are copies of each other or of training images")
    return sorted(new.values(), key=lambda one: one.found.name)


def _fingerprint(images: Sequence[Checked]) -> str:
    lines = "\n".join(f"{one.content} {one.found.name}" for one in images)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
