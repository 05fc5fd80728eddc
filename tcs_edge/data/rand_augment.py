"""RandAugment (arXiv 1909.13719) from torchvision, drawn from a generator that is passed in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

MAX_MAGNITUDE = 30


@dataclass(frozen=True)
class RandAugment:
    """`operations` random distortions of color or shape, one after the other; magnitude 0 leaves pictures alone.

    Attributes:
        magnitude: of every distortion, 0..`MAX_MAGNITUDE`.
        operations: how many.
    """

    magnitude: int = 0
    operations: int = 2

    def __call__(self, view: Image.Image, rng: np.random.Generator) -> Image.Image:
        """An RGB picture of the same size."""
        if not self.magnitude:
            return view
        from torchvision.transforms import v2  # takes a while to import, and most runs go without

        distort = v2.RandAugment(
            self.operations, self.magnitude, MAX_MAGNITUDE + 1, v2.InterpolationMode.BILINEAR, list(border_color(view))
        )
        # torchvision draws from torch's global stream: seeded for this picture, put back afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(rng.integers(2**63)))
            return distort(view)


def border_color(view: Image.Image) -> tuple[int, ...]:
    """Mean color of the outermost pixels: what most likely lies beyond the edge."""
    pixels = np.asarray(view)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(int(value) for value in border.mean(axis=0).round())
