"""Make extreme inputs: black, white, noise, tiny and huge values."""

from __future__ import annotations

import numpy as np

WHITE = 3.0  # about (1 - mean) / std of the usual normalizations
TINY, HUGE = 1e-3, 1e3


def hostile_images(img_size: int, seed: int = 0, huge: float = HUGE) -> dict[str, np.ndarray]:
    """Return normalized float32 images (1, 3, img_size, img_size) by name: black, white, noise, tiny, huge."""
    shape = (1, 3, img_size, img_size)
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return {
        "black": np.full(shape, -WHITE, dtype=np.float32),
        "white": np.full(shape, WHITE, dtype=np.float32),
        "noise": noise,
        "tiny": noise * np.float32(TINY),
        "huge": noise * np.float32(huge),
    }
