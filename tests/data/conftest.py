"""Small image folders and odd image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """picture(seed, width, height): a smooth random RGB image, different for every seed."""

    def make(seed: int = 0, width: int = 12, height: int = 9) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    return make


@pytest.fixture
def fill(picture: Callable[..., Image.Image]) -> Callable[..., None]:
    """fill(folder, count, seed): write `count` different PNG images into `folder`."""

    def write(folder: Path, count: int, seed: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture(seed * 10_000 + index).save(folder / f"{index:03d}.png")

    return write
