"""Gray thumbnails of images, and a sketch of 48 bytes by which candidates for near copies are found.

A sketch is a perceptual hash: the low frequencies of a thumbnail's discrete cosine transform (DCT), with their values
instead of their signs alone. The cosine of two sketches is near 1 for a copy that was encoded again or resized. A
mirrored image has the same frequencies, with the sign of the odd horizontal ones changed.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE_PX = 32
FREQUENCIES = 7  # per axis
SKETCH_BYTES = FREQUENCIES**2 - 1  # without the mean
_LARGEST = 127


def gray_thumbnail(image: Image.Image) -> np.ndarray:
    """Return the gray values of an upright image, uint8 (32, 32); the aspect ratio is not kept."""
    return np.asarray(image.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR))


def rough_thumbnail(image: Image.Image) -> np.ndarray:
    """Return nearly what `gray_thumbnail` does, in a fraction of its time, for the sketch of an image."""
    small = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small.convert("L"))


def _cosines(count: int) -> np.ndarray:
    """Return the first frequencies of the DCT, float32 (count, 32), each of norm 1 besides the mean."""
    place = (np.arange(SIDE_PX) + 0.5) * np.pi / SIDE_PX
    found: np.ndarray = np.cos(np.arange(count)[:, None] * place).astype(np.float32) * np.float32((2 / SIDE_PX) ** 0.5)
    found[0] *= np.float32(0.5**0.5)
    return found


_BASIS = _cosines(FREQUENCIES)
_AXIS = np.arange(FREQUENCIES, dtype=np.float32)
_WEIGHTS = np.sqrt(_AXIS[:, None] ** 2 + _AXIS[None] ** 2)
_MIRROR = np.tile(np.where(np.arange(FREQUENCIES) % 2, -1, 1), FREQUENCIES)[1:].astype(np.float32)


def sketch(gray: np.ndarray) -> bytes:
    """Return the weighted low frequencies of a thumbnail, (32, 32), scaled to norm 127: int8 (48,) as bytes."""
    rows = ((_BASIS @ gray.astype(np.float32) @ _BASIS.T) * _WEIGHTS).ravel()[1:]
    norm = float(np.sqrt(rows @ rows))
    found: np.ndarray = np.round(rows * (_LARGEST / max(norm, 1e-6))).astype(np.int8)
    return found.tobytes()


def unit_rows(sketches: np.ndarray) -> np.ndarray:
    """Return sketches, int8 (N, 48), as rows of norm 1, float32; that of an even image is zero."""
    rows = sketches.astype(np.float32)
    unit: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
    return unit


def mirrored(rows: np.ndarray) -> np.ndarray:
    """Return the rows, (N, 48), of the mirrored images."""
    turned: np.ndarray = rows * _MIRROR
    return turned
