"""Copies of decoded images, so that a run decodes each training and validation image once or twice.

Training reads copies at a working size, which depend on the image and the size of the student's input alone. They are
the same whether they are kept or made again, so a run with less room for them gives the same result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from tcs_edge.data.decode import reduction
from tcs_edge.data.images import ImageSet, Split
from tcs_edge.data.parallel import map_images
from tcs_edge.data.pixel_store import PixelStore
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.utils.progress import track

SPARE_SIDE = 1.25  # times the side of the evaluation view, so that random crops still differ
CACHE_GB = 4.0


class Images(Protocol):
    """Input of a loader: a `Split`, or its working copies."""

    @property
    def labels(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image: ...

    def decoded_bytes(self, index: int) -> int: ...


class WorkingCopies:
    """Copies of N images for views of `preprocess`: the shorter side is at most `SPARE_SIDE` times theirs.

    Args:
        stored: integers (N, 2), width and height of the files in pixels, before the EXIF rotation.
    """

    def __init__(self, stored: np.ndarray, preprocess: Preprocess, most_bytes: int, folder: Path | None) -> None:
        self.stored, self.view_side, self.resampling = stored, preprocess.resized_side, preprocess.resampling
        side = math.floor(SPARE_SIDE * self.view_side)
        factors = np.minimum(1.0, side / stored.min(axis=1, initial=2**31))[:, None]
        self.store = PixelStore(np.maximum(1, np.rint(stored * factors)).astype(np.int64), most_bytes, folder)

    def get(self, row: int) -> Image.Image | None:
        """Return the copy of image `row`, or None if it is not kept."""
        pixels = self.store.get(row)
        return None if pixels is None else Image.fromarray(pixels)

    def made(self, row: int, image: Image.Image) -> Image.Image:
        """Return the copy of image `row`, and keep it.

        Args:
            image: upright, decoded for views of `view_side`.
        """
        width, height = self.store.sizes[row].tolist()
        if abs(image.width * width - image.height * height) < abs(image.width * height - image.height * width):
            width, height = height, width  # the EXIF rotation
        copy = image if image.size == (width, height) else image.resize((width, height), self.resampling)
        self.store.put(row, np.asarray(copy))
        return copy

    def offer(self, row: int, image: Image.Image, view_side: int) -> None:
        """Keep a copy of an image that was decoded for views of `view_side`, if that is the same decoding."""
        width, height = self.stored[row].tolist()
        same = reduction((width, height), view_side) == reduction((width, height), self.view_side)
        if same and self.store.get(row) is None:
            self.made(row, image)


class Crops:
    """Evaluation views of N images: resized and cropped, uint8 (S, S, 3)."""

    def __init__(self, count: int, preprocess: Preprocess, most_bytes: int, folder: Path | None) -> None:
        self.preprocess = preprocess
        self.store = PixelStore(np.full((count, 2), preprocess.img_size), most_bytes, folder)


def evaluation_view(split: Split, row: int, preprocess: Preprocess) -> np.ndarray:
    """Return the evaluation view of image `row`, uint8 (S, S, 3): the one that the split keeps, or a new one.

    Raises:
        DataError: the image is no longer readable.
    """
    kept = split.crops.store.get(row) if split.crops and split.crops.preprocess == preprocess else None
    return np.asarray(preprocess.crop(split.image(row))) if kept is None else kept


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """A split's images at the working size."""

    split: Split
    copies: WorkingCopies

    @property
    def labels(self) -> np.ndarray:
        """Labels of the split, int64 (N,)."""
        return self.split.labels

    def __len__(self) -> int:
        return len(self.split)

    def image(self, index: int) -> Image.Image:
        """Return the copy of image `index`, upright RGB.

        Raises:
            DataError: as `Split.image`.
        """
        kept = self.copies.get(index)
        return kept or self.copies.made(index, self.split.image(index, self.copies.view_side))

    def pixels(self, index: int) -> np.ndarray:
        """Return the pixels of `image`, uint8 (height, width, 3); a kept copy is not copied, so do not write to it."""
        kept = self.copies.store.get(index)
        return np.asarray(self.image(index)) if kept is None else kept

    def decoded_bytes(self, index: int) -> int:
        """Estimate the memory for decoding image `index`; 0 for a copy that is kept."""
        kept = self.copies.store.get(index) is not None
        return 0 if kept else self.split.decoded_bytes(index, self.copies.view_side)


def with_copies(images: ImageSet, preprocess: Preprocess, cache_gb: float, folder: Path | None) -> ImageSet:
    """Return the images with room for working copies of train, and for evaluation views of val.

    Args:
        cache_gb: largest size of both in 10^9 bytes. The rest is left to the photos of the check.
        folder: folder of large arrays; None takes the cache folder.
    """
    if isinstance(images.train.sources, np.ndarray):
        return images
    most_bytes = int(cache_gb * 1e9)
    val = with_crops(images.val, preprocess, most_bytes, folder)
    room = most_bytes - (val.crops.store.bytes if val.crops else 0)
    working = _copies(images.train, preprocess, room, folder)
    if images.train.photos:
        images.train.photos.limit(room - working.store.bytes)
    return replace(images, train=replace(images.train, working=working), val=val)


def share_copies(images: ImageSet) -> None:
    """Let the processes of a run fill the same copies; every process calls it at once."""
    for store in (images.train.working and images.train.working.store, images.val.crops and images.val.crops.store):
        if store:
            store.allocate_together()


def with_crops(split: Split, preprocess: Preprocess, most_bytes: int, folder: Path | None) -> Split:
    """Return the split with room for its evaluation views; a split that has such room stays as it is."""
    if isinstance(split.sources, np.ndarray) or (split.crops and split.crops.preprocess == preprocess):
        return split
    return replace(split, crops=Crops(len(split), preprocess, most_bytes, folder))


def keep_decoded(split: Split, preprocess: Preprocess, cache_gb: float = CACHE_GB) -> Images:
    """Return the images of `split` at the working size, decoded at their first use; images in memory stay as they are.

    An image is shrunk if its shorter side exceeds `SPARE_SIDE` times the side of the evaluation view. Its pixels then
    differ from the file, so evaluate on the split and not on the copies.

    Args:
        cache_gb: largest size of the copies that are kept, in 10^9 bytes, if the split has none of this size yet.
    """
    if isinstance(split.sources, np.ndarray):
        return split
    copies = split.working
    wanted = (preprocess.resized_side, preprocess.resampling)
    if copies is None or (copies.view_side, copies.resampling) != wanted:
        copies = _copies(split, preprocess, int(cache_gb * 1e9), None)
    copies.store.allocate()
    return DecodedImages(split, copies)


def _copies(split: Split, preprocess: Preprocess, most_bytes: int, folder: Path | None) -> WorkingCopies:
    stored = split.sizes if split.sizes is not None else [split.size(index) for index in range(len(split))]
    sizes = np.asarray(stored, np.int64).reshape(-1, 2)
    return WorkingCopies(sizes, preprocess, most_bytes, folder)


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
