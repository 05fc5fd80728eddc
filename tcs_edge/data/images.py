"""Images in three splits, the input of every later stage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tcs_edge.data.compact import Chain, Compact, text_order
from tcs_edge.data.decode import Readable, decoded_bytes, image_size, open_rgb
from tcs_edge.utils.files import sha256_file

if TYPE_CHECKING:
    from tcs_edge.data.cache import Crops, WorkingCopies
    from tcs_edge.data.intake_photos import IntakePhotos

UNLABELED = -100  # the label that torch's cross-entropy ignores
SHA256_BYTES = 32


@dataclass(frozen=True, eq=False)
class Split:
    """One of the splits train, val and test.

    Attributes:
        sources: image files, images inside of archives, or uint8 images in memory: (N, H, W) gray or (N, H, W, 3) RGB.
        labels: int64 (N,), positions in `ImageSet.classes`, or `UNLABELED`.
        names: one stable name per image: the path relative to the data folder, or "digits/0001".
        contents: uint8 (N, 32), sha256 of each image's bytes; None computes it when asked.
        sizes: int32 (N, 2), stored width and height of each file in pixels, before the EXIF rotation; None reads it
            when asked.
        groups: int32 (N,), equal for images that belong together, such as those of one patient; None for no groups.
        sketches: int8 (N, 48) of val and test, see `thumbnail.sketch`; None elsewhere.
        working: smaller copies for training, which a pass over the images fills; None for no copies.
        crops: evaluation views, which the first pass over them fills; None for no copies.
        photos: large photos that the check has decoded; None for no such photos.
    """

    sources: Sequence[Path | Readable] | np.ndarray
    labels: np.ndarray
    names: Sequence[str]
    contents: np.ndarray | None = None
    sizes: np.ndarray | None = None
    groups: np.ndarray | None = None
    sketches: np.ndarray | None = None
    working: WorkingCopies | None = None
    crops: Crops | None = None
    photos: IntakePhotos | None = None

    def __post_init__(self) -> None:
        lengths = (len(self.sources), len(self.labels), len(self.names))
        if len(set(lengths)) != 1:
            raise ValueError(f"sources, labels and names differ in length: {lengths}")
        arrays = (self.contents, self.sizes, self.groups, self.sketches)
        if any(part is not None and len(part) != lengths[0] for part in arrays):
            raise ValueError(f"contents, sizes, groups or sketches differ in length from {lengths[0]} images")

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int, view_side: int | None = None) -> Image.Image:
        """Return image `index` as upright RGB.

        Args:
            view_side: as for `open_rgb`.

        Raises:
            DataError: the file is missing or no longer readable.
        """
        source = self.sources[index]
        if isinstance(source, np.ndarray):
            return Image.fromarray(source).convert("RGB")
        if self.photos and self._has_photo(index, view_side):
            return self.photos.get(self._content(index))
        return open_rgb(source, view_side)

    def _has_photo(self, index: int, view_side: int | None) -> bool:
        """Return True if the check has decoded image `index` as `open_rgb` would for views of `view_side`."""
        if self.photos is None or self.contents is None or view_side is None:
            return False
        return self.photos.has(self._content(index), self.size(index), view_side)

    def _content(self, index: int) -> bytes:
        assert self.contents is not None
        return bytes(self.contents[index])

    def decoded_bytes(self, index: int, view_side: int | None = None) -> int:
        """Estimate the memory for decoding image `index`; 0 for pixels in memory."""
        source = self.sources[index]
        if isinstance(source, np.ndarray) or self._has_photo(index, view_side):
            return 0
        return decoded_bytes(source, view_side=view_side)

    def size(self, index: int) -> tuple[int, int]:
        """Return the stored width and height of image `index` in pixels, before the EXIF rotation.

        Raises:
            DataError: as `decode.image_size`.
        """
        if self.sizes is not None:
            width, height = self.sizes[index].tolist()
            return width, height
        source = self.sources[index]
        return (source.shape[1], source.shape[0]) if isinstance(source, np.ndarray) else image_size(source)

    def content_sha256(self, index: int) -> str:
        """Return the sha256 (hex) of the image's bytes: the file, or the pixels in memory."""
        if self.contents is not None:
            return _hex(self.contents[index])
        source = self.sources[index]
        if isinstance(source, np.ndarray):
            return hashlib.sha256(np.ascontiguousarray(source).tobytes()).hexdigest()
        return content_hash(source).hex()

    def content_table(self) -> np.ndarray:
        """Return the sha256 of every image's bytes, uint8 (N, 32)."""
        if self.contents is not None:
            return self.contents
        table = np.empty((len(self), SHA256_BYTES), np.uint8)
        for index in range(len(self)):
            table[index] = np.frombuffer(bytes.fromhex(self.content_sha256(index)), np.uint8)
        return table

    @property
    def labeled(self) -> np.ndarray:
        """Positions of the labeled images, ascending."""
        return np.flatnonzero(self.labels != UNLABELED)

    @property
    def labeled_fraction(self) -> float:
        """Labeled images among all, in 0..1; not for an empty split."""
        return len(self.labeled) / len(self)

    def followed_by(self, others: Split) -> Split:
        """Return a split with these images, followed by `others`; all are files, or all are in memory."""
        sources: Sequence[Path | Readable] | np.ndarray
        if isinstance(self.sources, np.ndarray) and isinstance(others.sources, np.ndarray):
            sources = np.concatenate([self.sources, others.sources])
        elif isinstance(self.sources, np.ndarray) or isinstance(others.sources, np.ndarray):
            raise ValueError("cannot append files to images that are held in memory")
        else:
            sources = Chain([self.sources, others.sources])
        both = {name: (getattr(self, name), getattr(others, name)) for name in ("contents", "sizes", "sketches")}
        known: dict[str, Any] = {
            name: np.concatenate(pair) for name, pair in both.items() if all(part is not None for part in pair)
        }
        return Split(
            sources,
            np.concatenate([self.labels, others.labels]),
            Chain([self.names, others.names]),
            **known,
        )

    def subset(self, indices: Sequence[int] | np.ndarray) -> Split:
        """Return a split with the images at `indices`, in that order."""
        rows = np.asarray(indices, np.int64)
        return replace(
            self,
            working=None,
            crops=None,
            sources=_taken(self.sources, rows),
            labels=self.labels[rows],
            names=_taken(self.names, rows),
            contents=None if self.contents is None else self.contents[rows],
            sizes=None if self.sizes is None else self.sizes[rows],
            groups=None if self.groups is None else self.groups[rows],
            sketches=None if self.sketches is None else self.sketches[rows],
        )


def content_hash(source: Path | Readable) -> bytes:
    """Compute the sha256 of an image's bytes.

    Raises:
        OSError, DataError: it cannot be read.
    """
    return bytes.fromhex(sha256_file(source)) if isinstance(source, Path) else hashlib.sha256(source.read()).digest()


def _hex(content: np.ndarray) -> str:
    return bytes(content).hex()


def _taken(items: Any, rows: np.ndarray) -> Any:
    if isinstance(items, np.ndarray):
        return items[rows]
    return items.take(rows) if isinstance(items, Compact) else tuple(items[int(row)] for row in rows)


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
        test_copies: number of test images with a copy in train, equal or near.
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
    test_copies: int = 0

    def counts(self) -> dict[str, int]:
        """Count the images per split; unlabeled images, if any, have a count of their own."""
        labeled = len(self.train.labeled)
        counts = {"train": labeled, "val": len(self.val), "test": len(self.test)}
        unlabeled = len(self.train) - labeled
        return counts | {"unlabeled": unlabeled} if unlabeled else counts


def fingerprint(classes: Iterable[str], splits: Iterable[tuple[Split, Sequence[str]]]) -> str:
    """Compute the sha256 (hex) of the class names and of (name, content sha256, label) of every image.

    Args:
        splits: train, val and test in this order, each with the content sha256 (hex) of its images.
    """
    digest = hashlib.sha256()
    for name in classes:
        _add(digest, "class", name)
    for part, (split, contents) in zip(("train", "val", "test"), splits, strict=True):
        for row in _sorted_rows(split, contents):
            _add(digest, part, *map(str, row))
    return digest.hexdigest()


def _sorted_rows(split: Split, contents: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Yield (name, content, label) of every image in sorted order."""
    equal: list[tuple[str, str, int]] = []  # rows of the same name
    for row in text_order(split.names).tolist():
        item = (split.names[row], contents[row], int(split.labels[row]))
        if equal and equal[0][0] != item[0]:
            yield from sorted(equal)
            equal = []
        equal.append(item)
    yield from sorted(equal)


def _add(digest: hashlib._Hash, *fields: str) -> None:
    # File names may hold bytes that are not UTF-8. They cannot contain NUL, so NUL is the separator.
    digest.update("\0".join(fields).encode("utf-8", "surrogateescape") + b"\0\n")


class HexTexts(Compact[str]):
    """Hashes, uint8 (N, 32), as hexadecimal texts."""

    def __init__(self, table: np.ndarray) -> None:
        self.table, self._count = table, len(table)

    def _item(self, row: int) -> str:
        return _hex(self.table[row])

    def _view(self, rows: np.ndarray) -> HexTexts:
        return HexTexts(self.table[rows])
