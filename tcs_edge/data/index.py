"""Index of the images that a reader found, one row for each, before and after their check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tcs_edge.data.compact import Compact, Texts
from tcs_edge.data.images import UNLABELED, Split
from tcs_edge.data.sources import Files, Sources

PARTS = ("train", "val", "test")
ALL = "all"  # images of a set without splits


@dataclass(frozen=True, eq=False)
class Listed:
    """Images that a reader found; none of them is opened yet.

    Attributes:
        origin: the folder or file that the user named.
        classes: class names, sorted; empty for images without labels.
        names: name of each image (N), relative to the data.
        sources: files or members of archives (N).
        labels: int32 (N,), positions in `classes`, or `UNLABELED`.
        parts: names of the splits that the data has, or `ALL`.
        part: int8 (N,), positions in `parts`.
        groups: int32 (N,), equal for images that belong together; None for no groups.
        where: place of each image in a table, for messages, such as "row 7"; None for folders.
    """

    origin: Path
    classes: tuple[str, ...]
    names: Compact[str]
    sources: Sources
    labels: np.ndarray
    parts: tuple[str, ...]
    part: np.ndarray
    groups: np.ndarray | None = None
    where: Compact[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def name(self) -> str:
        """Name of the set: the folder's, or the file's without its suffix."""
        origin = self.origin.resolve()
        return origin.name if origin.is_dir() else origin.stem

    def only(self, part: str) -> Listed:
        """Return the images of one split."""
        rows = np.flatnonzero(self.part == self.parts.index(part))
        return replace(self.take(rows), parts=(part,), part=np.zeros(len(rows), np.int8))

    def take(self, rows: np.ndarray) -> Listed:
        """Return the images at `rows`, integers (n,), in that order."""
        return replace(
            self, names=self.names.take(rows), sources=self.sources.take(rows), labels=self.labels[rows],
            part=self.part[rows], groups=None if self.groups is None else self.groups[rows],
            where=None if self.where is None else self.where.take(rows),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Index:
    """Readable images of `listed`.

    Attributes:
        rows: int64 (n,), their positions in `listed`, ascending. The other attributes have one row for each of them.
        contents: uint8 (n, 32), sha256 of the bytes.
        sizes: int32 (n, 2), stored width and height in pixels.
        sketches: int8 (n, 48), see `thumbnail.sketch`; only held-out splits keep them.
    """

    listed: Listed
    rows: np.ndarray
    contents: np.ndarray
    sizes: np.ndarray
    sketches: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Labels of the readable images, int32 (n,)."""
        labels: np.ndarray = self.listed.labels[self.rows]
        return labels

    @property
    def groups(self) -> np.ndarray | None:
        """Groups of the readable images, int32 (n,), or None."""
        return None if self.listed.groups is None else self.listed.groups[self.rows]

    def names_at(self, places: np.ndarray) -> Compact[str]:
        """Return the names of the images at `places`, in that order."""
        return self.listed.names.take(self.rows[places])

    def places_of(self, part: str) -> np.ndarray:
        """Return the positions of the images of a split, ascending."""
        return np.flatnonzero(self.listed.part[self.rows] == self.listed.parts.index(part))

    def split(self, places: np.ndarray, with_sketches: bool = False) -> Split:
        """Return the images at `places` as a split, in that order."""
        rows = self.rows[places]
        labels = self.listed.labels[rows].astype(np.int64)
        names, sources = self.listed.names.take(rows), self.listed.sources.take(rows)
        groups = None if self.listed.groups is None else self.listed.groups[rows]
        sketches = self.sketches[places] if with_sketches else None
        return Split(sources, labels, names, self.contents[places], self.sizes[places], groups, sketches)


def folder_listing(folder: Path, names: Mapping[str, Mapping[str, Sequence[Texts]]]) -> Listed:
    """Return the index of files below `folder`.

    Args:
        names: names relative to the folder, by split and class; the splits have the same classes, or fewer than train.
    """
    parts = tuple(names)
    classes = tuple(sorted({name for found in names.values() for name in found}))
    texts: list[Texts] = []
    labels, part = [], []
    for number, found in enumerate(names.values()):
        for name in sorted(found):
            count = sum(map(len, found[name]))
            texts += found[name]
            labels.append(np.full(count, classes.index(name), np.int32))
            part.append(np.full(count, number, np.int8))
    joined = Texts.joined(texts)
    return Listed(
        folder, classes, joined, Files(folder, joined), np.concatenate(labels), parts, np.concatenate(part)
    )  # fmt: skip


def unlabeled_listing(origin: Path, names: Texts, sources: Sources, prefix: str) -> Listed:
    """Return the index of images without labels.

    Args:
        names: names relative to `origin`, of the images in `sources`.
        prefix: start of the names of the images.
    """
    count = len(names)
    named = Texts.of(f"{prefix}/{name}" for name in names)
    labels, part = np.full(count, UNLABELED, np.int32), np.zeros(count, np.int8)
    return Listed(origin, (), named, sources, labels, (ALL,), part)
