"""Features on disk: shards named by what they were made from, each proved by its hash.

A folder holds one split's features of one teacher. Its name is the hash of everything the numbers
depend on, so another teacher, size or data set is simply another folder and nothing goes stale.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import DataError
from tcs_edge.utils.files import read_json, write_bytes, write_json

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
FEATURE_VERSION = 1  # raise it when "pooled output after the final norm, fp16" comes to mean other numbers
SHARD_IMAGES = 512  # what an interrupted pass loses at most: a minute of a small ViT on two cores
_TENSOR = "features"


def default_cache_dir() -> Path:
    """TCS_EDGE_CACHE, else $XDG_CACHE_HOME/tcs-edge, else ~/.cache/tcs-edge."""
    own = os.environ.get("TCS_EDGE_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "tcs-edge"


def feature_ingredients(
    timm_name: str,
    weights_sha256: str,
    preprocess: Preprocess,
    fingerprint: str,
    split: str,
    names: Sequence[str],
) -> dict[str, Any]:
    """Everything a split's features depend on, as a JSON object.

    Args:
        fingerprint: of the image set; it does not see the order of the images, so `names` (which image
            is in which row) counts too.
        split: "train" or "val".
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
    """sha256 (hex) of the ingredients, whatever the order of their keys."""
    return _digest(json.dumps(ingredients, sort_keys=True, allow_nan=False))


def _digest(text: str) -> str:
    # A file name may hold bytes that are no UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class FeatureStore:
    """One split's features, float16 (rows, dim), in shards of `shard_images` rows under `root`.

    `index.json` records the ingredients and each finished shard's hash; a shard that is not in it does
    not exist.
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
        """The rows shard number `shard` holds."""
        start = shard * self.shard_images
        return range(start, min(start + self.shard_images, self.rows))

    def read_intact(self) -> dict[int, np.ndarray]:
        """Every shard whose bytes are still those that were written; a warning for each of the others."""
        recorded = self._recorded(logging.WARNING)
        found = {shard: self._read(shard, recorded[shard]) for shard in recorded}
        for shard in (shard for shard, features in found.items() if features is None):
            logger.warning(f"feature cache: {self._path(shard)} is missing or damaged; it is computed again.")
        return {shard: features for shard, features in found.items() if features is not None}

    def write(self, shard: int, features: np.ndarray) -> None:
        """Keep a finished shard, float16 (len(rows_of(shard)), dim), then record its hash.

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
        """Hashes of the finished shards; an unusable index is logged at `level`."""
        path = self.folder / "index.json"
        if not path.exists():
            return {}
        try:
            index = read_json(path, SCHEMA_VERSION)
            if index | {"sha256": {}} != self._index({}):
                raise DataError(f"{path} describes other features")
            hashes = {int(shard): str(digest) for shard, digest in index["sha256"].items()}
        except (DataError, KeyError, ValueError, AttributeError) as error:
            logger.log(level, f"feature cache: the index cannot be used and is made again ({error}).")
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
