"""Comparison of the fine detail of two images, for pairs whose thumbnails do not suffice.

Smooth tiles, such as water or fog, have windows that are like windows of others. The grain of a copy is the same as
that of its original, so the correlation of their middle frequencies decides.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.fft import dctn, idctn

from tcs_edge.data.windows import COPY, Compared

SIDE_PX = 64
# Cycles per two sides: below are those that thumbnails show, above the noise of JPEG.
LOWEST, HIGHEST = 10, 30
# Of faint pairs: true crops of satellite tiles had correlations of 0.87 and more, other pairs at most 0.51.
LEAST_OF_FAINT = 0.7
LEAST_OF_OTHERS = 0.5  # photos turned by 3 degrees, as in a burst, had 0.55 and more
# Distance up to which pairs count without detail; of faint ones only if the whole images match: JPEG removes grain.
CLEAR, WHOLE_WITHIN = 0.4, 0.05
_REACH_PX = 3  # of the shift between both, as windows are not exact
_CLIP = 1.5  # median absolute values, so that one bright spot does not decide


def settled(compared: Compared, pairs: np.ndarray, image: Callable[[int], Image.Image]) -> np.ndarray:
    """Return the distances of compared pairs, float32 (P,), infinite for pairs that differ in their detail.

    Args:
        pairs: int64 (P, 2), numbers of the images.
        image: opens an image by its number, as upright RGB; decoded for views of `SIDE_PX` suffices.

    Raises:
        DataError: an image that cannot be read.
    """
    distance = compared.distance.copy()
    ends = np.abs(compared.window - np.array([0, 1, 0, 1], np.float32)).max(axis=1)
    sure = (distance <= CLEAR) & (~compared.faint | (ends <= WHOLE_WITHIN))
    least = np.where(compared.faint, LEAST_OF_FAINT, LEAST_OF_OTHERS)
    for row in np.flatnonzero(~sure & (distance <= COPY)).tolist():
        first, second = (image(number) for number in pairs[row].tolist())
        if correlation(first, second, compared.window[row], bool(compared.mirrored[row])) < least[row]:
            distance[row] = np.inf
    return distance


def correlation(first: Image.Image, second: Image.Image, window: np.ndarray, mirrored: bool) -> float:
    """Return the correlation, -1..1, of the detail of a window of `first` with that of the whole of `second`.

    Args:
        window: left, right, top, bottom in 0..1, in the mirrored image if `mirrored`.
    """
    first = first.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else first
    left, right, top, bottom = (float(end) for end in window)
    width, height = first.size
    one, other = _grain(first, (left * width, top * height, right * width, bottom * height)), _grain(second, None)
    spectrum = np.fft.fft2(one) * np.conj(np.fft.fft2(other))
    shifts = np.arange(-_REACH_PX, _REACH_PX + 1)
    products = np.fft.ifft2(spectrum).real[np.ix_(shifts, shifts)]
    return float(products.max() / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-6))


def _grain(image: Image.Image, box: tuple[float, float, float, float] | None) -> np.ndarray:
    """Return the middle frequencies of an image's gray values, clipped, float32 (64, 64)."""
    gray = image.convert("L").convert("F").resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, box=box)
    planes = dctn(np.asarray(gray), norm="ortho")
    axis = np.arange(SIDE_PX)
    cycles = np.hypot(axis[:, None], axis[None])
    grain = idctn(np.where((cycles >= LOWEST) & (cycles <= HIGHEST), planes, 0), norm="ortho")
    clipped: np.ndarray = np.clip(grain / max(_CLIP * float(np.median(np.abs(grain))), 1e-6), -1, 1)
    return clipped
