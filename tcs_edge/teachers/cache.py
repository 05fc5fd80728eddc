"""Feature cache on disk, in shards that are verified by hash.

A folder holds the features of one teacher for one split. Its name is a hash of all inputs. Another
teacher, image size or data set thus has another folder, and cached features are never out of date.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import DataError
from tcs_edge.utils.files import remove_drafts, write_bytes, write_json
from tcs_edge.utils.lock import owned_folder
from tcs_edge.utils.reading import read_json

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
FEATURE_VERSION = 1  # increase it when the computation of "pooled output after the final norm, fp16" changes
SHARD_IMAGES = 512  # largest loss of an interrupted pass: a minute of a small ViT on two cores
_TENSOR = "features"


def feature_ingredients(
    timm_name: str,
    weights_sha256: str,
    preprocess: Preprocess,
    fingerprint: str,
    split: str,
    names: Sequence[str],
) -> dict[str, Any]:
    """Return all inputs of a split's features as a JSON object.

    Args:
        fingerprint: fingerprint of the image set; it does not depend on the order of the images.
        split: "train" or "val".
        names: names of the images by row, which give their order.
    """
    values = {key: value for key, value in preprocess.to_json().items() if key != "description"}
    return {
        "feature_version": FEATURE_VERSION,
        "model": timm_name,
        "weights_sha256": weights_sha256,
        "preprocess": values,
        "data_fingerprint": fingerprint,
        "split": split,
        "names_sha256": _digest("\0".join(names)),
    }


def cache_key(ingredients: Mapping[str, Any]) -> str:
    """Compute the sha256 (hex) of the ingredients, for any order of their keys."""
    return _digest(json.dumps(ingredients, sort_keys=True, allow_nan=False))


def _digest(text: str) -> str:
    # A file name may hold bytes that are not UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class FeatureStore:
    """Features of one split, float16 (rows, dim), in shards of `shard_images` rows under `root`.

    `index.json` records the ingredients and the hash of each finished shard. Shards without a recorded
    hash are ignored.
    """

    root: Path
    ingredients: Mapping[str, Any]
    rows: int
    dim: int
    shard_images: int = SHARD_IMAGES

    @property
    def key(self) -> str:
        return cache_key(self.ingredients)

    @property
    def folder(self) -> Path:
        return self.root / "features" / self.key[:32]

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_images)

    def rows_of(self, shard: int) -> range:
        """Range of the rows in shard number `shard`."""
        start = shard * self.shard_images
        return range(start, min(start + self.shard_images, self.rows))

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Own the folder for a block that writes shards; wait for another process that computes the same features.

        Raises:
            MissingError: the cache folder cannot be written.
        """
        with owned_folder(self.folder, wait_s=None):
            remove_drafts(self.folder)
            yield

    def read_intact(self, level: int = logging.WARNING) -> dict[int, np.ndarray]:
        """Read every intact shard; log each shard that is missing or damaged at `level`."""
        recorded = self._recorded(level)
        found = {shard: self._read(shard, recorded[shard]) for shard in recorded}
        for shard in (shard for shard, features in found.items() if features is None):
            logger.log(level, f"feature cache: recomputing the missing or damaged shard {self._path(shard)}")
        return {shard: features for shard, features in found.items() if features is not None}

    def write(self, shard: int, features: np.ndarray) -> None:
        """Write a finished shard, float16 (len(rows_of(shard)), dim), then record its hash. The caller owns the folder.

        Raises:
            MissingError: the disk is full or the cache folder cannot be written.
        """
        expected = (len(self.rows_of(shard)), self.dim)
        if features.shape != expected or features.dtype != np.float16:
            raise ValueError(f"shard {shard}: {features.dtype} {features.shape} is not float16 {expected}")
        data = save({_TENSOR: np.ascontiguousarray(features)})
        write_bytes(self._path(shard), data)
        hashes = self._recorded(logging.DEBUG) | {shard: hashlib.sha256(data).hexdigest()}
        write_json(self.folder / "index.json", self._index(hashes))

    def _index(self, hashes: Mapping[int, str]) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "ingredients": dict(self.ingredients),
            "rows": self.rows,
            "dim": self.dim,
            "shard_images": self.shard_images,
            "sha256": {str(shard): hashes[shard] for shard in sorted(hashes)},
        }

    def _recorded(self, level: int) -> dict[int, str]:
        """Read the hashes of the finished shards; log an unusable index at `level`."""
        path = self.folder / "index.json"
        if not path.exists():
            return {}
        try:
            index = read_json(path, SCHEMA_VERSION)
            if index | {"sha256": {}} != self._index({}):
                raise DataError(f"{path} describes other features")
            hashes = {int(shard): str(digest) for shard, digest in index["sha256"].items()}
        except (DataError, KeyError, ValueError, AttributeError) as error:
            logger.log(level, f"feature cache: rebuilding the unusable index ({error})")
            return {}
        return {shard: digest for shard, digest in hashes.items() if 0 <= shard < self.shards}

    def _read(self, shard: int, sha256: str) -> np.ndarray | None:
        try:
            data = self._path(shard).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != sha256:
            return None
        try:
            features = load(data).get(_TENSOR)
        except SafetensorError:
            return None
        fits = features is not None and features.shape == (len(self.rows_of(shard)), self.dim)
        return features if fits else None

    def _path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}.safetensors"
