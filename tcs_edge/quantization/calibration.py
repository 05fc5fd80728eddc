"""Select training images for the ranges of int8 activations."""

from __future__ import annotations

import logging

import numpy as np

from tcs_edge.data import ImageSet, Split
from tcs_edge.errors import DataError

logger = logging.getLogger(__name__)

FEWEST = 8


def calibration_split(images: ImageSet, count: int, seed: int) -> Split:
    """Draw at most `count` training images by `seed`, without copies of evaluation images.

    Ranges fitted to evaluation images would overestimate the accuracy. A training image with the bytes of a
    validation or test image is therefore replaced by the next drawn image.

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
        logger.info(f"calibration: skipped {refused} training images that are also evaluation images")
    if len(chosen) < FEWEST:
        raise DataError(
            f"int8 needs {FEWEST} training images that are not evaluation images. {images.name} has "
            f"{len(chosen)}. Remove the copies from train, or omit int8."
        )
    return images.train.subset(sorted(chosen))
