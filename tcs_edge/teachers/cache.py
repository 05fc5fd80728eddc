"""Cache of features on disk, by the content of the images.

The features of one network, preprocessing and readout share a folder, whose name is a hash of these inputs. It holds
shards: a few hundred images each, with the sha256 of every image's bytes beside its features. So a feature is found
again in any split, seed or data set.

A shard's file name is the sha256 of the file. A damaged file is detected, and no index exists that two writers could
overwrite. Each pass writes into a subfolder of its own, which it owns (`utils.lock`). Shards are memory-mapped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from tcs_edge.data.images import SHA256_BYTES
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import TcsEdgeError
from tcs_edge.utils.files import write_bytes, write_json
from tcs_edge.utils.lock import owned_file, owned_folder, remove_abandoned
from tcs_edge.utils.reading import parse_json
from tcs_edge.utils.row_array import row_array

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 2
FEATURE_VERSION = 1  # increase it when the computation of "pooled output after the final norm, fp16" changes
PRECISION = "float32"  # of the forward pass
SHARD_IMAGES = 512  # largest loss of an interrupted pass: a minute of a small ViT on two cores
FEATURES_FOLDER = "features"
SPACE_FILE = "space.json"
_FEATURES, _CONTENTS = "features", "contents"
_SHARD = re.compile(r"[0-9a-f]{64}\.safetensors")
_MOST_HEADER_BYTES = 100_000


def feature_ingredients(model: str, weights_sha256: str, preprocess: Preprocess) -> dict[str, Any]:
    """Return all inputs of a network's features besides the images, as a JSON object."""
    values = {key: value for key, value in preprocess.to_json().items() if key != "description"}
    return {
        "feature_version": FEATURE_VERSION,
        "model": model,
        "weights_sha256": weights_sha256,
        "preprocess": values,
        "precision": PRECISION,
    }


def cache_key(ingredients: Mapping[str, Any]) -> str:
    """Compute the sha256 (hex) of the ingredients, for any order of their keys."""
    # A file name may hold bytes that are not UTF-8.
    text = json.dumps(ingredients, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Shard:
    """A memory-mapped file of features.

    Attributes:
        contents: uint8 (n, 32), sha256 of the bytes of each image.
        features: float16 (n, dim).
    """

    path: Path
    contents: np.ndarray
    features: np.ndarray

    def is_intact(self) -> bool:
        """Return True if the file still has the sha256 in its name."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.path.stem


@dataclass(frozen=True)
class FeatureStore:
    """Features, float16 (dim,) for each image, of one network, preprocessing and readout.

    Attributes:
        root: the cache folder.
        ingredients: all inputs of the features besides the images.
        shard_images: images that a pass should write at a time.
    """

    root: Path
    ingredients: Mapping[str, Any]
    dim: int
    shard_images: int = SHARD_IMAGES

    @property
    def key(self) -> str:
        """The sha256 (hex) of the ingredients."""
        return cache_key(self.ingredients)

    @property
    def folder(self) -> Path:
        """Folder of all shards of these features."""
        return self.root / FEATURES_FOLDER / self.key[:32]

    @contextmanager
    def owned(self, contents: np.ndarray) -> Iterator[Path]:
        """Own the subfolder of a pass over these images, uint8 (N, 32), and yield it for `write`.

        Another process that computes the same images is waited for.

        Raises:
            MissingError: the cache folder cannot be written.
        """
        folder = self.folder / hashlib.sha256(contents.tobytes()).hexdigest()[:16]
        with owned_folder(folder, wait_s=None):
            if not (self.folder / SPACE_FILE).exists():
                self._describe()
            yield folder

    def _describe(self) -> None:
        """Write the ingredients for people and `tcs-edge cache`; a draft of a killed process is removed."""
        facts = {"schema_version": SCHEMA_VERSION, "ingredients": dict(self.ingredients), "dim": self.dim}
        with owned_file(self.folder / SPACE_FILE, wait_s=None):
            write_json(self.folder / SPACE_FILE, facts)

    def read(self, contents: np.ndarray, level: int = logging.WARNING) -> tuple[np.ndarray, np.ndarray]:
        """Read the features of images, uint8 (N, 32).

        Damaged shards are logged at `level` and removed, and so are the locks and drafts of killed passes.

        Returns:
            Features, float16 (N, dim), and True for the images that have some, bool (N,).
        """
        remove_abandoned(self.folder)
        features = row_array((len(contents), self.dim), np.float16, self.root)
        found = np.zeros(len(contents), bool)
        for shard, rows, places in self._matches(contents):
            if found[rows].all():
                continue
            if not shard.is_intact():
                logger.log(level, f"feature cache: recomputing the damaged shard {shard.path}")
                with suppress(OSError):
                    shard.path.unlink()
                continue
            features[rows] = shard.features[places]
            found[rows] = True
        return features, found

    def has(self, contents: np.ndarray) -> np.ndarray:
        """Return True, bool (N,), for the images of `contents`, uint8 (N, 32), that have features."""
        found = np.zeros(len(contents), bool)
        for _, rows, _ in self._matches(contents):
            found[rows] = True
        return found

    def write(self, folder: Path, contents: np.ndarray, features: np.ndarray) -> None:
        """Write a finished shard into the `folder` that the caller owns.

        Args:
            contents: uint8 (n, 32), sha256 of the bytes of each image.
            features: float16 (n, dim).

        Raises:
            MissingError: the disk is full or the cache folder cannot be written.
        """
        expected = (len(contents), self.dim)
        if features.shape != expected or features.dtype != np.float16:
            raise ValueError(f"features: {features.dtype} {features.shape} is not float16 {expected}")
        data = save({_FEATURES: np.ascontiguousarray(features), _CONTENTS: np.ascontiguousarray(contents)})
        write_bytes(folder / f"{hashlib.sha256(data).hexdigest()}.safetensors", data)

    def _matches(self, contents: np.ndarray) -> Iterator[tuple[Shard, np.ndarray, np.ndarray]]:
        """Yield each shard that has some of the images, with their rows in `contents` and their places in the shard."""
        wanted = _starts(contents)
        order = wanted.argsort(kind="stable")
        for shard in map(self._open, shard_files(self.folder)):
            if shard is None:
                continue
            starts = _starts(shard.contents)
            first = np.searchsorted(wanted, starts, "left", sorter=order)
            last = np.searchsorted(wanted, starts, "right", sorter=order)
            places = np.repeat(np.arange(len(starts)), last - first)
            offsets = np.arange(len(places)) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
            rows = order[first[places] + offsets]
            same = (contents[rows] == shard.contents[places]).all(axis=1)
            if same.any():
                yield shard, rows[same], places[same]

    def _open(self, path: Path) -> Shard | None:
        """Map a shard; None for a file that is no shard of these features."""
        try:
            data = np.memmap(path, np.uint8, "r")
            size = int.from_bytes(bytes(data[:8]), "little")
            if size > _MOST_HEADER_BYTES:
                raise ValueError("its header is too long")
            header = parse_json(bytes(data[8 : 8 + size]), str(path))
            contents, features = (_tensor(data[8 + size :], header[name]) for name in (_CONTENTS, _FEATURES))
            if (contents.shape, features.shape) != ((len(features), SHA256_BYTES), (len(contents), self.dim)):
                raise ValueError(f"its shapes are {contents.shape} and {features.shape}")
        except (OSError, ValueError, KeyError, TypeError, TcsEdgeError) as error:
            logger.debug(f"feature cache: {path} is not used ({error})")
            return None
        return Shard(path, contents, features)


def shard_files(folder: Path) -> list[Path]:
    """List the shards below the folder of one store, in the order in which their passes were first read."""
    return sorted(path for path in folder.glob("*/*.safetensors") if _SHARD.fullmatch(path.name))


def _starts(contents: np.ndarray) -> np.ndarray:
    """Return the first 8 bytes of each hash as a number, to find candidates fast."""
    return np.ascontiguousarray(contents[:, :8]).view(np.uint64).ravel()


def _tensor(data: np.ndarray, facts: Mapping[str, Any]) -> np.ndarray:
    """Return a tensor of a safetensors file as a view of its mapped bytes."""
    start, end = facts["data_offsets"]
    dtype = {"F16": np.float16, "U8": np.uint8}[facts["dtype"]]
    return data[start:end].view(dtype).reshape(facts["shape"])
