"""Images in three splits, the input of every later stage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tcs_edge.data.decode import decoded_bytes, open_rgb
from tcs_edge.utils.files import sha256_file

UNLABELED = -100  # the label that torch's cross-entropy ignores


@dataclass(frozen=True, eq=False)
class Split:
    """One of the splits train, val and test.

    Attributes:
        sources: image files, or uint8 images held in memory: (N, H, W) gray or (N, H, W, 3) RGB.
        labels: int64 (N,), positions in `ImageSet.classes`, or `UNLABELED`.
        names: one stable name per image: the path relative to the data folder, or "digits/0001".
    """

    sources: tuple[Path, ...] | np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = (len(self.sources), len(self.labels), len(self.names))
        if len(set(lengths)) != 1:
            raise ValueError(f"sources, labels and names differ in length: {lengths}")

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Image.Image:
        """Return image `index` as upright RGB.

        Raises:
            DataError: the file is missing or no longer readable.
        """
        source = self.sources[index]
        if isinstance(source, Path):
            return open_rgb(source)
        return Image.fromarray(source).convert("RGB")

    def decoded_bytes(self, index: int) -> int:
        """Estimate the memory for decoding image `index`; 0 for pixels in memory."""
        source = self.sources[index]
        return decoded_bytes(source) if isinstance(source, Path) else 0

    def content_sha256(self, index: int) -> str:
        """Compute the sha256 (hex) of the image's bytes: the file, or the pixels in memory."""
        source = self.sources[index]
        if isinstance(source, Path):
            return sha256_file(source)
        return hashlib.sha256(np.ascontiguousarray(source).tobytes()).hexdigest()

    @property
    def labeled(self) -> np.ndarray:
        """Positions of the labeled images, ascending."""
        return np.flatnonzero(self.labels != UNLABELED)

    def followed_by(self, paths: Sequence[Path], names: Sequence[str]) -> Split:
        """Return a split with these images, followed by the files at `paths` without labels."""
        if isinstance(self.sources, np.ndarray):
            raise ValueError("cannot append files to images that are held in memory")
        labels = np.concatenate([self.labels, np.full(len(paths), UNLABELED, np.int64)])
        return Split((*self.sources, *paths), labels, (*self.names, *names))

    def subset(self, indices: Sequence[int] | np.ndarray) -> Split:
        """Return a split with the images at `indices`, in that order."""
        rows = [int(index) for index in indices]
        sources = self.sources[rows] if isinstance(self.sources, np.ndarray) else self._pick(rows)
        return Split(sources, self.labels[rows], tuple(self.names[row] for row in rows))

    def _pick(self, rows: list[int]) -> tuple[Path, ...]:
        return tuple(self.sources[row] for row in rows)


@dataclass(frozen=True)
class Skipped:
    """An unusable image and the reason."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one task.

    Attributes:
        train: may end with unlabeled images (see `unlabeled.with_unlabeled`); val and test never do.
        fingerprint: changes with any labeled image, label, class name or split.
        unlabeled_fingerprint: changes with any unlabeled image; empty when there are none.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    fingerprint: str
    skipped: tuple[Skipped, ...] = ()
    builtin: bool = False
    unlabeled_fingerprint: str = ""

    def counts(self) -> dict[str, int]:
        """Count the images per split; unlabeled images, if any, have a count of their own."""
        labeled = len(self.train.labeled)
        counts = {"train": labeled, "val": len(self.val), "test": len(self.test)}
        unlabeled = len(self.train) - labeled
        return counts | {"unlabeled": unlabeled} if unlabeled else counts


def fingerprint(classes: Iterable[str], splits: Iterable[tuple[Split, Sequence[str]]]) -> str:
    """Compute the sha256 (hex) of the class names and of (name, content sha256, label) of every image.

    Args:
        splits: train, val and test in this order, each with the content sha256 of its images.
    """
    digest = hashlib.sha256()
    for name in classes:
        _add(digest, "class", name)
    for part, (split, contents) in zip(("train", "val", "test"), splits, strict=True):
        for row in sorted(zip(split.names, contents, split.labels.tolist(), strict=True)):
            _add(digest, part, *map(str, row))
    return digest.hexdigest()


def _add(digest: hashlib._Hash, *fields: str) -> None:
    # File names may hold bytes that are not UTF-8. They cannot contain NUL, so NUL is the separator.
    digest.update("\0".join(fields).encode("utf-8", "surrogateescape") + b"\0\n")
