"""Images of all splits and the unlabeled ones, as one list."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tcs_edge.data.images import UNLABELED, ImageSet, Split
from tcs_edge.data.index import PARTS
from tcs_edge.data.unlabeled import PART as UNLABELED_PART

ALL_PARTS = (*PARTS, UNLABELED_PART)


@dataclass(frozen=True, eq=False)
class CheckedImages:
    """All images of a check.

    Attributes:
        images: the image set; its training split may end with unlabeled images.
        all: train, val and test, one after the other; the unlabeled images are at the end of train.
        part: int8 (N,), positions in `ALL_PARTS`.
    """

    images: ImageSet
    all: Split
    part: np.ndarray

    @classmethod
    def of(cls, images: ImageSet) -> CheckedImages:
        """Join the splits of an image set."""
        splits = (images.train, images.val, images.test)
        part = np.concatenate([np.full(len(split), number, np.int8) for number, split in enumerate(splits)])
        joined = splits[0].followed_by(splits[1]).followed_by(splits[2])
        part[joined.labels == UNLABELED] = ALL_PARTS.index(UNLABELED_PART)
        return cls(images, joined, part)

    def __len__(self) -> int:
        return len(self.part)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.images.classes

    @property
    def labels(self) -> np.ndarray:
        """Labels, int64 (N,), `UNLABELED` for images without one."""
        return self.all.labels

    @property
    def labeled(self) -> np.ndarray:
        """Positions of the labeled images."""
        return self.all.labeled

    def name(self, row: int) -> str:
        """Name of an image: its path relative to the data."""
        return self.all.names[row]

    def part_name(self, row: int) -> str:
        """Split of an image, or "unlabeled"."""
        return ALL_PARTS[self.part[row]]

    def label_name(self, row: int) -> str | None:
        """Class of an image; None without a label."""
        label = int(self.labels[row])
        return None if label == UNLABELED else self.classes[label]

    def as_training_set(self) -> ImageSet:
        """Return an image set with all images in train and none in val and test, for the pass of a teacher."""
        none = self.all.subset([])
        return replace(self.images, train=self.all, val=none, test=none)
