"""RandAugment (arXiv 1909.13719) from torchvision, with random numbers from the caller's generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

MAX_MAGNITUDE = 30


@dataclass(frozen=True)
class RandAugment:
    """Random distortions of color or shape, applied in sequence; magnitude 0 changes nothing.

    Attributes:
        magnitude: strength of every distortion, 0..`MAX_MAGNITUDE`.
        operations: number of distortions.
    """

    magnitude: int = 0
    operations: int = 2

    def __call__(self, view: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Distort an RGB image; its size stays the same."""
        if not self.magnitude:
            return view
        from torchvision.transforms import v2  # slow to import, and most runs do not need it

        distort = v2.RandAugment(
            self.operations, self.magnitude, MAX_MAGNITUDE + 1, v2.InterpolationMode.BILINEAR, list(border_color(view))
        )
        # torchvision draws from torch's global generator: seed it for this image and restore it afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(rng.integers(2**63)))
            distorted: Image.Image = distort(view)
            return distorted


def border_color(view: Image.Image) -> tuple[int, ...]:
    """Mean color of the outermost pixels, as a guess of the color beyond the edge."""
    pixels = np.asarray(view)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(int(value) for value in border.mean(axis=0).round())
