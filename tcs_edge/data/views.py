"""Views of images as uint8 pixels, for the loaders of training and evaluation."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from tcs_edge.data.augment import Augment
from tcs_edge.data.batch_views import Window, window_of
from tcs_edge.data.cache import Crops, DecodedImages, Images
from tcs_edge.data.images import Split
from tcs_edge.data.parallel import ByteBudget
from tcs_edge.data.preprocess import Preprocess

Sample = tuple[torch.Tensor, int, int]
Draw = tuple[int, int, int]  # epoch, an image's position, and the number of its earlier draws in this epoch


class View(Protocol):
    """A view of an image: uint8 RGB of the model's input size."""

    def stored(self, index: int) -> np.ndarray | None:
        """Return the view of an image that needs no decoding, or None."""

    def __call__(self, image: Image.Image, draw: Draw) -> np.ndarray: ...


class Views(Dataset[Sample]):
    """Data set that maps a draw to (view uint8 (S, S, 3), label, position)."""

    def __init__(self, images: Images, view: View, budget: ByteBudget) -> None:
        self.images, self.view, self.budget = images, view, budget

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> Sample:
        _, index, _ = draw
        pixels = self.view.stored(index)
        if pixels is None:
            with self.budget.held(self.images.decoded_bytes(index)):
                pixels = self.view(self.images.image(index), draw)
        return torch.from_numpy(np.array(pixels)), int(self.images.labels[index]), index


class RandomView:
    """Random view for (seed, draw)."""

    def __init__(self, augment: Augment, seed: int) -> None:
        self.augment, self.seed = augment, seed

    def stored(self, _index: int) -> None:
        """Return None: every view is new."""

    def __call__(self, image: Image.Image, draw: Draw) -> np.ndarray:
        return np.asarray(self.augment.view(image, view_generator(self.seed, draw)))


def view_generator(seed: int, draw: Draw) -> np.random.Generator:
    """Return the generator of a random view."""
    epoch, index, again = draw
    # index + 1, since stream 0 draws the order of the epoch
    return np.random.default_rng([seed, epoch, index + 1, *([again] if again else [])])


class Windows(Dataset[tuple[Window, int, int]]):
    """Data set that maps a draw to (window of its random view, label, position), for `BatchViews`."""

    def __init__(self, images: DecodedImages, augment: Augment, seed: int, budget: ByteBudget) -> None:
        self.images, self.augment, self.seed, self.budget = images, augment, seed, budget

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> tuple[Window, int, int]:
        _, index, _ = draw
        with self.budget.held(self.images.decoded_bytes(index)):
            pixels = self.images.pixels(index)
        height, width = pixels.shape[:2]
        drawn = self.augment.draw((width, height), view_generator(self.seed, draw))
        return window_of(pixels, drawn, self.augment), int(self.images.labels[index]), index


class PlainView:
    """The evaluation view, kept in `crops` if they have this preprocessing."""

    def __init__(self, preprocess: Preprocess, crops: Crops | None) -> None:
        self.preprocess, self.crops = preprocess, crops

    def stored(self, index: int) -> np.ndarray | None:
        """Return the kept view of image `index`, or None."""
        return None if self.crops is None else self.crops.store.get(index)

    def __call__(self, image: Image.Image, draw: Draw) -> np.ndarray:
        view = np.asarray(self.preprocess.crop(image))
        if self.crops is not None:
            self.crops.store.put(draw[1], view)
        return view


class ReducedImages:
    """Images for evaluation views at a reduced decoding, which fills the split's working copies."""

    def __init__(self, split: Split, view_side: int) -> None:
        self.split, self.view_side, self.labels = split, view_side, split.labels

    def __len__(self) -> int:
        return len(self.split)

    def image(self, index: int) -> Image.Image:
        image = self.split.image(index, self.view_side)
        if self.split.working:
            self.split.working.offer(index, image, self.view_side)
        return image

    def decoded_bytes(self, index: int) -> int:
        return self.split.decoded_bytes(index, self.view_side)
