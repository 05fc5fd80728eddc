"""Features of a run's images from a file that the user computed elsewhere."""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
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
MOST_LOST = 0.1  # of the standard deviation over images, by rounding to float16
ROWS_AT_ONCE = 4096
SHOWN = 3  # names in a message


def given_features(images: ImageSet, path: Path) -> Features:
    """Return the features of the training and validation images, as float16; nothing is computed.

    Rows of other images, such as the test images, are counted and left out.

    Raises:
        UsageError, MissingError, DataError: as `read_feature_file`; DataError also for an image without a row, and
            for features that are NaN, Inf, above the fp16 limit, too alike for fp16, or the same for all images.
    """
    rows, content = read_feature_file(path)
    sha256 = hashlib.sha256(content).hexdigest()
    del content
    wanted = {part: _keys(split, rows.hashed) for part, split in (("train", images.train), ("val", images.val))}
    row_of = _matched((*wanted["train"], *wanted["val"]), rows)
    _require_all(images, wanted, row_of, rows, path)
    taken = {part: rows.features[[row_of[key] for key in keys]] for part, keys in wanted.items()}
    for part, split in (("train", images.train), ("val", images.val)):
        _require_numbers(taken[part], split, path)
    _require_different(taken["train"], path)
    if others := len(rows.keys) - len(row_of):
        logger.info(f"teacher features: left out rows of other images, such as test images: {others}")
    meta = TeacherFacts(path.name, rows.features.shape[1], f"unknown ({path.name})", sha256, f"file {path.name}")
    key = cache_key({"file": sha256, **wanted})
    halves = {part: found.astype(np.float16) for part, found in taken.items()}
    _require_kept(taken["train"], halves["train"], path)
    return Features(halves["train"], halves["val"], key, meta, 0, 0.0)


def _keys(split: Split, hashed: bool) -> list[str]:
    return [split.content_sha256(row) for row in range(len(split))] if hashed else list(split.names)


def _matched(wanted: Sequence[str], rows: FeatureRows) -> dict[str, int]:
    """Return the row of each key that has one.

    A name without a row of its own takes one that only differs in its Unicode form (macOS), in backslashes (Windows)
    or in a leading "./", if no other image could take it.
    """
    known = {key: row for row, key in enumerate(rows.keys)}
    found = {key: known[key] for key in wanted if key in known}
    left = [] if rows.hashed else [key for key in wanted if key not in found]
    if left:
        free = [key for key in rows.keys if key not in found]
        times = Counter(map(_plain, free)) + Counter(map(_plain, left))
        plain = {_plain(key): known[key] for key in free}
        found |= {key: plain[_plain(key)] for key in left if _plain(key) in plain and times[_plain(key)] == 2}
    return found


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


def _require_all(
    images: ImageSet, wanted: Mapping[str, Sequence[str]], row_of: Mapping[str, int], rows: FeatureRows, path: Path
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


def _require_kept(features: np.ndarray, halves: np.ndarray, path: Path) -> None:
    """Refuse features whose differences between images are lost in their float16 form `halves`."""
    center = features.mean(axis=0, dtype=np.float64)
    lost = spread = 0.0
    for start in range(0, len(features), ROWS_AT_ONCE):
        part = features[start : start + ROWS_AT_ONCE].astype(np.float64)
        lost += float(np.square(part - halves[start : start + ROWS_AT_ONCE]).sum())
        spread += float(np.square(part - center).sum())
    if len(features) > 1 and lost >= MOST_LOST**2 * spread:
        raise DataError(
            f"{path}: the features differ by {(spread / features.size) ** 0.5:.2g} between images, at a size of "
            f"{np.abs(features).max():.2g}, which fp16 cannot hold. Subtract their mean, and divide all by one number."
        )
