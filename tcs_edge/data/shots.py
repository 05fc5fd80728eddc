"""Few labeled images per class: which ones, by seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tcs_edge.data.images import UNLABELED, ImageSet
from tcs_edge.errors import DataError


def few_shot(images: ImageSet, shots: int, seed: int, keep_rest: bool = False) -> ImageSet:
    """`images` with `shots` training images of every class; what has no label, validation and test stay.

    Args:
        keep_rest: the training images that are not drawn stay, in their places, without their labels.

    Raises:
        DataError: a class has fewer.
    """
    rng = np.random.default_rng([seed, shots])
    rows: list[int] = []
    for label, name in enumerate(images.classes):
        own = np.flatnonzero(images.train.labels == label)
        if len(own) < shots:
            raise DataError(
                f"class {name!r} has {len(own)} training images, --shots asks for {shots}. "
                f"Add images of it, or pass --shots {len(own)} or less."
            )
        rows += sorted(rng.choice(own, shots, replace=False).tolist())
    if keep_rest:
        labels = np.full(len(images.train), UNLABELED, np.int64)
        labels[rows] = images.train.labels[rows]
        return replace(images, train=replace(images.train, labels=labels))
    rows += np.flatnonzero(images.train.labels == UNLABELED).tolist()
    return replace(images, train=images.train.subset(rows))
