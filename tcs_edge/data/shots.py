"""Few-shot subsets: a fixed number of labeled training images per class, drawn by seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tcs_edge.data.images import UNLABELED, ImageSet
from tcs_edge.errors import DataError


def few_shot(images: ImageSet, shots: int, seed: int, keep_rest: bool = False) -> ImageSet:
    """Draw `shots` labeled training images of every class; keep unlabeled, validation and test images.

    Args:
        keep_rest: keep the other training images in place, as unlabeled images.

    Raises:
        DataError: a class has fewer than `shots` training images.
    """
    rng = np.random.default_rng([seed, shots])
    rows: list[int] = []
    for label, name in enumerate(images.classes):
        own = np.flatnonzero(images.train.labels == label)
        if len(own) < shots:
            raise DataError(
                f"class {name!r} has {len(own)} training images, --shots asks for {shots}. "
                f"Add images of this class, or pass --shots {len(own)} or less."
            )
        rows += sorted(rng.choice(own, shots, replace=False).tolist())
    if keep_rest:
        labels = np.full(len(images.train), UNLABELED, np.int64)
        labels[rows] = images.train.labels[rows]
        return replace(images, train=replace(images.train, labels=labels))
    rows += np.flatnonzero(images.train.labels == UNLABELED).tolist()
    return replace(images, train=images.train.subset(rows))
