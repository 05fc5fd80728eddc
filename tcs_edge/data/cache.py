"""Decode the training images once and keep them in memory, when they fit."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from tcs_edge.data.decode import image_size
from tcs_edge.data.images import Split
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

SPARE_SIDE = 1.25  # of the evaluation view's side, so that a random crop still has pixels to choose from


class Images(Protocol):
    """What a loader reads: a `Split`, or its images decoded and kept."""

    @property
    def labels(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image: ...


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """Images of a split in one buffer, which forked workers share without copying.

    Attributes:
        labels: int64 (N,).
        pixels: uint8, all images end to end, each (height, width, 3).
        offsets: int64 (N + 1,), where each image starts.
        sizes: int64 (N, 2), width and height.
    """

    labels: np.ndarray
    pixels: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Image `index` as upright RGB."""
        width, height = (int(side) for side in self.sizes[index])
        flat = self.pixels[self.offsets[index] : self.offsets[index + 1]]
        return Image.fromarray(flat.reshape(height, width, 3))


def keep_decoded(split: Split, preprocess: Preprocess, cache_mb: float = 1024) -> Images:
    """Decode every image of `split` once, for training; `split` itself when that exceeds `cache_mb`.

    Images whose shorter side is above `SPARE_SIDE` times the evaluation view's are shrunk to it,
    so their pixels differ a little from the file's: evaluate on the split, not on this.

    Raises:
        DataError: an image cannot be read any more.
    """
    if isinstance(split.sources, np.ndarray):
        return split
    side = math.floor(SPARE_SIDE * preprocess.resized_side)
    sizes = [_shrunk(image_size(path), side) for path in split.sources]
    needed_mb = sum(width * height * 3 for width, height in sizes) / 1e6
    if needed_mb > cache_mb:
        logger.debug(f"decoded images take {needed_mb:.0f} of {cache_mb:.0f} MB: read anew each epoch.")
        return split
    return _decode_all(split, sizes, side, preprocess)


def _shrunk(size: tuple[int, int], side: int) -> tuple[int, int]:
    factor = side / min(size)
    if factor >= 1:
        return size
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _decode_all(split: Split, stored: Sequence[tuple[int, int]], side: int, preprocess: Preprocess) -> DecodedImages:
    # An EXIF turn swaps width and height but not the area, so the offsets hold before decoding.
    offsets = np.concatenate([[0], np.cumsum([3 * width * height for width, height in stored])]).astype(np.int64)
    pixels = np.empty(offsets[-1], np.uint8)
    sizes = np.empty((len(split), 2), np.int64)

    def decode(index: int) -> None:
        image = split.image(index)
        image = image.resize(_shrunk(image.size, side), preprocess.resampling)
        sizes[index] = image.size
        pixels[offsets[index] : offsets[index + 1]] = np.asarray(image).reshape(-1)

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for _ in track(pool.map(decode, range(len(split))), "Decoding images", total=len(split)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return DecodedImages(split.labels, pixels, offsets, sizes)
