"""Cache of decoded training images in memory, used when they fit."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from tcs_edge.data.images import Split
from tcs_edge.data.parallel import map_images
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

SPARE_SIDE = 1.25  # times the side of the evaluation view, so that random crops still differ


class Images(Protocol):
    """Input of a loader: a `Split`, or its images decoded in memory."""

    @property
    def labels(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image: ...

    def decoded_bytes(self, index: int) -> int: ...


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """Decoded images of a split in one buffer, which forked workers share without copying.

    Attributes:
        labels: int64 (N,).
        pixels: uint8, all images end to end, each (height, width, 3).
        offsets: int64 (N + 1,), start of each image in `pixels`, and the end of the last one.
        sizes: int64 (N, 2), width and height of each image in pixels.
    """

    labels: np.ndarray
    pixels: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Return image `index` as upright RGB."""
        width, height = (int(side) for side in self.sizes[index])
        flat = self.pixels[self.offsets[index] : self.offsets[index + 1]]
        return Image.fromarray(flat.reshape(height, width, 3))

    def decoded_bytes(self, _index: int) -> int:
        """Return 0: the images are decoded already."""
        return 0


def keep_decoded(split: Split, preprocess: Preprocess, cache_mb: float = 1024) -> Images:
    """Decode every image of `split` into memory for training; return `split` if that exceeds `cache_mb`.

    An image is shrunk if its shorter side exceeds `SPARE_SIDE` times the side of the evaluation view.
    Its pixels then differ slightly from the file, so evaluate on the split and not on this cache.

    Args:
        cache_mb: largest size of the cache in 10^6 bytes.

    Raises:
        DataError: an image is no longer readable.
    """
    if isinstance(split.sources, np.ndarray):
        return split
    side = math.floor(SPARE_SIDE * preprocess.resized_side)
    sizes = [_shrunk(split.size(index), side) for index in range(len(split))]
    needed_mb = sum(width * height * 3 for width, height in sizes) / 1e6
    if needed_mb > cache_mb:
        logger.debug(f"decoded image cache: off ({needed_mb:.0f} MB needed, limit {cache_mb:.0f} MB)")
        return split
    return _decode_all(split, sizes, side, preprocess)


def crop_all(split: Split, rows: Sequence[int], preprocess: Preprocess, description: str) -> np.ndarray:
    """Return the images at `rows`, resized and cropped but not normalized: uint8 (n, S, S, 3).

    Args:
        description: text of the progress bar.

    Raises:
        DataError: an image is no longer readable.
    """
    side = preprocess.img_size
    pixels = np.empty((len(rows), side, side, 3), np.uint8)

    def crop(place: int) -> None:
        pixels[place] = np.asarray(preprocess.crop(split.image(rows[place])))

    with closing(map_images(crop, range(len(rows)), lambda place: split.decoded_bytes(rows[place]))) as done:
        for _ in track(done, description, total=len(rows)):
            pass
    return pixels


def _shrunk(size: tuple[int, int], side: int) -> tuple[int, int]:
    factor = side / min(size)
    if factor >= 1:
        return size
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _decode_all(split: Split, stored: Sequence[tuple[int, int]], side: int, preprocess: Preprocess) -> DecodedImages:
    # An EXIF rotation swaps width and height but keeps the area, so the offsets are valid before decoding.
    offsets = np.concatenate([[0], np.cumsum([3 * width * height for width, height in stored])]).astype(np.int64)
    pixels = np.empty(offsets[-1], np.uint8)
    sizes = np.empty((len(split), 2), np.int64)

    def decode(index: int) -> None:
        image = split.image(index)
        image = image.resize(_shrunk(image.size, side), preprocess.resampling)
        sizes[index] = image.size
        pixels[offsets[index] : offsets[index + 1]] = np.asarray(image).reshape(-1)

    with closing(map_images(decode, range(len(split)), split.decoded_bytes)) as done:
        for _ in track(done, "Decoding images", total=len(split)):
            pass
    return DecodedImages(split.labels, pixels, offsets, sizes)
