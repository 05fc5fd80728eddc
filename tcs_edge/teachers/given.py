"""Features of a run's images from a file that the user computed elsewhere."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np

from tcs_edge.data.images import ImageSet, Split
from tcs_edge.data.listing import name_some
from tcs_edge.errors import DataError
from tcs_edge.teachers.cache import cache_key
from tcs_edge.teachers.feature_file import FLAG, FeatureRows, read_feature_file
from tcs_edge.teachers.features import Features
from tcs_edge.teachers.info import TeacherFacts

logger = logging.getLogger(__name__)

FP16_MAX = float(np.finfo(np.float16).max)
SHOWN = 3  # names in a message


def given_features(images: ImageSet, path: Path) -> Features:
    """Return the features of the training and validation images, as float16; nothing is computed.

    Rows of other images, such as the test images, are counted and left out.

    Raises:
        UsageError, MissingError, DataError: as `read_feature_file`; DataError also for an image without a row, and
            for features that are NaN, Inf, above the fp16 limit, or the same for all images.
    """
    rows, content = read_feature_file(path)
    sha256 = hashlib.sha256(content).hexdigest()
    del content
    row_of = {key: row for row, key in enumerate(rows.keys)}
    wanted = {part: _keys(split, rows.hashed) for part, split in (("train", images.train), ("val", images.val))}
    _require_all(images, wanted, row_of, rows, path)
    taken = {part: rows.features[[row_of[key] for key in keys]] for part, keys in wanted.items()}
    for part, split in (("train", images.train), ("val", images.val)):
        _require_numbers(taken[part], split, path)
    _require_different(taken["train"], path)
    if others := len(row_of) - len({*wanted["train"], *wanted["val"]}):
        logger.info(f"teacher features: left out rows of other images, such as test images: {others}")
    meta = TeacherFacts(path.name, rows.features.shape[1], f"unknown ({path.name})", sha256, f"file {path.name}")
    key = cache_key({"file": sha256, **wanted})
    halves = {part: found.astype(np.float16) for part, found in taken.items()}
    return Features(halves["train"], halves["val"], key, meta, 0, 0.0)


def _keys(split: Split, hashed: bool) -> list[str]:
    return [split.content_sha256(row) for row in range(len(split))] if hashed else list(split.names)


def _require_all(
    images: ImageSet, wanted: dict[str, list[str]], row_of: dict[str, int], rows: FeatureRows, path: Path
) -> None:
    names = (*images.train.names, *images.val.names)
    keys = (*wanted["train"], *wanted["val"])
    missing = [name for name, key in zip(names, keys, strict=True) if key not in row_of]
    if not missing:
        return
    kind = "sha256" if rows.hashed else "name"
    has = f"Its first {kind} is {rows.keys[0]!r}. " if rows.keys else ""
    raise DataError(
        f"{path} has no features of {len(missing)} of {len(names)} training and validation images: "
        f"{name_some(missing, SHOWN)}. {has}"
        "Name images by their path in the data folder, with forward slashes, or by the sha256 of the file."
    )


def _require_numbers(features: np.ndarray, split: Split, path: Path) -> None:
    """Refuse NaN, Inf and numbers that float16 cannot hold, with the image's name."""
    for row in np.flatnonzero(~np.isfinite(features).all(axis=1))[:1]:
        raise DataError(f"{path}: the features of {split.names[row]} have NaN or Inf. Compute them again.")
    for row in np.flatnonzero(np.abs(features).max(axis=1, initial=0) > FP16_MAX)[:1]:
        largest = np.abs(features[row]).max()
        raise DataError(
            f"{path}: the features of {split.names[row]} reach {largest:.3g}, above the fp16 limit of {FP16_MAX:g}. "
            "Divide all features by one number."
        )


def _require_different(features: np.ndarray, path: Path) -> None:
    if len(features) > 1 and (features == features[:1]).all():
        raise DataError(f"{path} has the same features for all training images. Pass {FLAG} those of each image.")
