"""Which images the ranges of int8 activations are taken from: training images, and no others."""

from __future__ import annotations

import logging

import numpy as np

from tcs_edge.data import ImageSet, Split
from tcs_edge.errors import DataError

logger = logging.getLogger(__name__)

FEWEST = 8


def calibration_split(images: ImageSet, count: int, seed: int) -> Split:
    """At most `count` training images, drawn by `seed`, of which no copy is among the evaluation images.

    Ranges that were fitted to images which later judge the model would flatter it. A training image with the
    bytes of a validation or test image is refused, and the next one drawn is taken.

    Raises:
        DataError: fewer than 8 images are left.
    """
    evaluated = {part.content_sha256(row) for part in (images.val, images.test) for row in range(len(part))}
    chosen: list[int] = []
    refused = 0
    for row in np.random.default_rng([seed, len(images.train)]).permutation(len(images.train)).tolist():
        if len(chosen) == count:
            break
        if images.train.content_sha256(row) in evaluated:
            refused += 1
        else:
            chosen.append(row)
    if refused:
        logger.info(f"calibration: {refused} training images are evaluation images too and were refused")
    if len(chosen) < FEWEST:
        raise DataError(
            f"int8 needs {FEWEST} training images that are not evaluation images too, {images.name} has "
            f"{len(chosen)}. Take the copies out of train, or leave int8 out."
        )
    return images.train.subset(sorted(chosen))
