"""Training-time augmentation: a random view of an image, as the tensor that the model receives.

All random numbers come from the generator that the caller passes, so a view is reproducible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.data.rand_augment import RandAugment, border_color
from tcs_edge.errors import UsageError

Kind = Literal["none", "crop", "crop-flip"]
KINDS = ("none", "crop", "crop-flip")

MIN_SCALE = {"none": 1.0, "crop": 0.8, "crop-flip": 0.5}
MAX_ASPECT = {"none": 1.0, "crop": 1.1, "crop-flip": 4 / 3}
MAX_ROTATION_DEG = 10.0
MAX_SHIFT = 0.08  # as a fraction of the side


@dataclass(frozen=True)
class Drawn:
    """Random numbers of one view.

    Attributes:
        box: window (left, top, right, bottom) of the image in pixels, which the view shows.
        mirrored: the view is mirrored from left to right.
        angle_deg: rotation of the view around its center, counterclockwise.
        shift: how far the view is then moved to the right and down, in pixels of the view.
    """

    box: tuple[float, float, float, float]
    mirrored: bool = False
    angle_deg: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Augment:
    """Random view of an image: uint8 RGB image -> float32 (3, img_size, img_size), normalized.

    Attributes:
        kind: "none" is the evaluation view. "crop-flip" takes a random crop and mirrors it with
            probability 0.5; use it for photos. "crop" takes a mild crop, then rotates and shifts
            it slightly; use it where a mirrored image means something else (digits, signs).
        preprocess: size, resampling filter, mean and std of the view.
        min_scale: smallest fraction of the image's area that a crop keeps, in (0, 1];
            None uses the default of `kind` (0.8 for "crop", 0.5 for "crop-flip").
        distortion: distortions applied after the crop.

    Raises:
        UsageError: `kind` is unknown or `min_scale` is out of range.
    """

    kind: Kind
    preprocess: Preprocess
    min_scale: float | None = None
    distortion: RandAugment = RandAugment()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"augmentation must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if self.min_scale is not None and not 0 < self.min_scale <= 1:
            raise UsageError(f"min_scale must be above 0 and at most 1, got {self.min_scale!r}.")

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> torch.Tensor:
        """Draw one view of `image` with `rng`."""
        return torch.from_numpy(self.preprocess.normalize(np.asarray(self.view(image, rng))))

    def view(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Draw one view of `image` with `rng`, before its normalization."""
        return self.distortion(self._view(image, rng), rng)

    def _view(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        if self.kind == "none":
            return self.preprocess.crop(image)
        drawn, side = self.draw(image.size, rng), self.preprocess.img_size
        view = image.resize((side, side), self.preprocess.resampling, box=drawn.box)
        if drawn.mirrored:
            return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return view if self.kind == "crop-flip" else _rotate_and_shift(view, drawn)

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> Drawn:
        """Draw the random numbers of a view of an image of `size` (width, height); not for the kind "none"."""
        smallest = MIN_SCALE[self.kind] if self.min_scale is None else self.min_scale
        box = random_box(size, smallest, MAX_ASPECT[self.kind], rng)
        if self.kind == "crop-flip":
            return Drawn(box, mirrored=bool(rng.random() < 0.5))
        angle = rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG)
        across, down = (rng.uniform(-MAX_SHIFT, MAX_SHIFT, size=2) * self.preprocess.img_size).tolist()
        return Drawn(box, angle_deg=angle, shift=(across, down))


def random_box(
    size: tuple[int, int], min_scale: float, max_aspect: float, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Draw a random window (left, top, right, bottom) inside an image of `size` (width, height).

    The area is uniform in [min_scale, 1] times the image's area. The aspect ratio is log-uniform in
    [1 / max_aspect, max_aspect]. A window that does not fit is shrunk at the same aspect ratio.
    """
    width, height = size
    area = rng.uniform(min_scale, 1.0) * width * height
    aspect = math.exp(rng.uniform(-1.0, 1.0) * math.log(max_aspect))
    across, down = math.sqrt(area * aspect), math.sqrt(area / aspect)
    fit = min(1.0, width / across, height / down)
    across, down = min(across * fit, width), min(down * fit, height)
    left, top = rng.uniform(0.0, 1.0) * (width - across), rng.uniform(0.0, 1.0) * (height - down)
    return left, top, min(left + across, width), min(top + down, height)


def _rotate_and_shift(view: Image.Image, drawn: Drawn) -> Image.Image:
    return view.rotate(
        drawn.angle_deg,
        Image.Resampling.BILINEAR,
        translate=drawn.shift,  # type: ignore[arg-type]  # fractions of a pixel work too
        fillcolor=border_color(view),
    )
