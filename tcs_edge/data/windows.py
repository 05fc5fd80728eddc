"""Comparison of thumbnails under mirroring and cropping.

A thumbnail is described by the low frequencies of its discrete cosine transform (DCT). Images have little energy in
high frequencies, so each coefficient is weighted by its frequency. The mean gray value is left out. The cosine of two
descriptions is 1 for a copy that was encoded again or resized. For a crop, a window of the original is described.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import dct

from tcs_edge.data.thumbnail import SIDE_PX

COARSE, FINE = 7, 12  # frequencies per axis, to find candidates and to compare them
# Standard deviation of the noise in a thumbnail, in gray values: files with few colors are compared less strictly.
NOISE = 1.5
MOST_NOISE = 0.3  # share of noise that is allowed in an image of little contrast
EVEN_NOISE = 0.02  # share of noise above which an image is nearly even, so that contrast and mean must agree too
FAINT_NOISE = 0.2  # share of noise above which a window may be like one of another image (see `detail`)
BLANK_NOISE = 10.0  # ratio of noise and contrast above which nothing is left to compare
MOST_SHIFT = 8.0  # gray values between the means of copies
SAMPLING = 0.025  # 1 - cosine that a window between the pixels of a thumbnail may cost
COPY = 0.7  # distance of copies at most; measured by benchmarks/check_quality.py
# Changes of a window's edges, as shares of the side, and the distance above which they cannot make a copy.
_STEPS = ((0.04, 20.0), (0.04, 12.0), (0.02, 6.0), (0.02, 4.0), (0.01, 2.0), (0.01, 2.0))
_MOVES = np.array(
    [(1, 1, 0, 0), (0, 0, 1, 1), (-1, 1, -1, 1), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)], np.float32
)
_POINTS = 16  # positions per axis that are compared
_SMALLEST_SIDE = 0.3  # of a window, as a share of the side


@dataclass(frozen=True)
class Compared:
    """Comparison of P pairs of thumbnails.

    Attributes:
        distance: float32 (P,), the difference of their frequencies, divided by that of noise alone; infinite for
            nearly even images whose mean gray values differ by more than `MOST_SHIFT`, and for blank ones.
        window: float32 (P, 4), the window of the first image that is most like the second one.
        mirrored: bool (P,), True for windows of the mirrored image.
        faint: bool (P,), True for pairs in which an image has little contrast.
    """

    distance: np.ndarray
    window: np.ndarray
    mirrored: np.ndarray
    faint: np.ndarray


def _basis(count: int, points: int = SIDE_PX) -> np.ndarray:
    found: np.ndarray = dct(np.eye(points), axis=0, norm="ortho")[:count].astype(np.float32)
    return found


def _weights(count: int) -> np.ndarray:
    axis = np.arange(count, dtype=np.float32)
    found: np.ndarray = np.sqrt(axis[:, None] ** 2 + axis[None] ** 2)
    return found


def _windows(*steps: tuple[float, int]) -> np.ndarray:
    """Return windows (n, 4) as left, right, top, bottom in 0..1, for each (side, positions per axis)."""
    found = []
    for side, places in steps:
        starts = np.linspace(0, 1 - side, places) if places > 1 else [0.0]
        found += [(left, left + side, top, top + side) for left in starts for top in starts]
    return np.array(found, np.float32)


WHOLE = np.array([0, 1, 0, 1], np.float32)
WINDOWS = _windows((1.0, 1), (0.9, 3), (0.82, 4))
MIRRORED = 10  # windows, from the first, that are tried on mirrored images too
# For pairs that features already suggest, where few comparisons are affordable at more windows.
SMALL_WINDOWS = np.concatenate([WINDOWS, _windows((0.7, 4), (0.55, 5))])


def described(gray: np.ndarray, window: np.ndarray = WHOLE, mirrored: bool = False) -> np.ndarray:
    """Describe one window of thumbnails (N, 32, 32); return unit rows, float32 (N, 48)."""
    down = _basis(COARSE) @ _sampled(window[None, 2:])[0]
    across = _basis(COARSE) @ _sampled(window[None, :2])[0]
    across = across[:, ::-1] if mirrored else across
    return _unit((down @ gray.astype(np.float32, copy=False) @ across.T) * _weights(COARSE))


def windows_of(numbers: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Return the windows, float32 (P, 4), at `numbers`; numbers from `len(windows)` on mean mirrored images."""
    found: np.ndarray = windows[numbers % len(windows)]
    return found


def best_windows(first: np.ndarray, second: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Find the window of each thumbnail in `first` that is most like the whole one in `second`, both (P, 32, 32).

    Returns:
        Numbers of windows, int64 (P,), as for `windows_of`.
    """
    whole = described(second)
    tried = [(False, window) for window in windows] + [(True, window) for window in windows[:MIRRORED]]
    cosines = [(described(first, window, mirrored) * whole).sum(axis=1) for mirrored, window in tried]
    best: np.ndarray = np.argmax(cosines, axis=0)
    return best


def compare(first: np.ndarray, second: np.ndarray, numbers: np.ndarray, windows: np.ndarray) -> Compared:
    """Compare pairs of thumbnails, (P, 32, 32) each, for a copy in `second` of a window of `first`.

    The edges of each window are moved as long as the cosine grows.

    Args:
        numbers: window of each pair to start with, as for `windows_of`.
    """
    mirrored = numbers >= len(windows)
    seen = np.where(mirrored[:, None, None], first[:, :, ::-1], first)
    window = windows_of(numbers, windows).copy()
    target = _fine_whole(second)
    share = _noise_share(target)
    allowed, even = np.minimum(share, MOST_NOISE) + SAMPLING, share > EVEN_NOISE
    unlike = _unlike(seen, target, window, even)
    for step, hopeless in _STEPS:
        rows = np.flatnonzero(unlike / allowed < hopeless)
        for move in (*(step * _MOVES), *(-step * _MOVES)):
            moved = np.clip(window[rows] + move.astype(np.float32), 0, 1)
            found = np.where(_large_enough(moved), _unlike(seen[rows], target[rows], moved, even[rows]), np.inf)
            better = found < unlike[rows]
            window[rows[better]], unlike[rows[better]] = moved[better], found[better]
    shift = np.abs(_means(seen, window) - second.mean(axis=(1, 2)))
    unknown = (even & (shift > MOST_SHIFT)) | (share > BLANK_NOISE)
    distance = np.where(unknown, np.inf, unlike / allowed).astype(np.float32)
    faint = np.maximum(share, _noise_share(_fine_whole(first))) > FAINT_NOISE
    return Compared(distance, window, mirrored, faint)


def _fine_whole(gray: np.ndarray) -> np.ndarray:
    return _fine(gray, np.tile(WHOLE, (len(gray), 1)))


def _noise_share(fine: np.ndarray) -> np.ndarray:
    """Return the energy of noise as a share of that of fine descriptions, (P, 144): float32 (P,)."""
    noise = NOISE**2 * float((_weights(FINE) ** 2).sum())
    share: np.ndarray = noise / np.maximum((fine**2).sum(axis=1), 1e-6)
    return share


def _large_enough(windows: np.ndarray) -> np.ndarray:
    sides = windows[:, [1, 3]] - windows[:, [0, 2]]
    large: np.ndarray = (sides >= _SMALLEST_SIDE).all(axis=1)
    return large


def _unlike(gray: np.ndarray, target: np.ndarray, windows: np.ndarray, even: np.ndarray) -> np.ndarray:
    """Return 1 - cosine of each pair; for `even` ones, plus the relative difference of their contrasts, squared."""
    rows = _fine(gray, windows)
    norms = np.maximum(np.linalg.norm(rows, axis=1) * np.linalg.norm(target, axis=1), 1e-6)
    cosine = (rows * target).sum(axis=1) / norms
    contrast = ((rows - target) ** 2).sum(axis=1) / (2 * norms)
    found: np.ndarray = np.where(even, contrast, 1 - cosine)
    return found


def _means(gray: np.ndarray, windows: np.ndarray) -> np.ndarray:
    cropped = _sampled(windows[:, 2:], _POINTS) @ gray @ _sampled(windows[:, :2], _POINTS).transpose(0, 2, 1)
    found: np.ndarray = cropped.mean(axis=(1, 2))
    return found


def _fine(gray: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Describe windows (P, 4) of thumbnails (P, 32, 32) by their weighted frequencies, float32 (P, 144)."""
    basis = _basis(FINE, _POINTS)
    across = (basis @ _sampled(windows[:, :2], _POINTS)).transpose(0, 2, 1)
    rows = (basis @ _sampled(windows[:, 2:], _POINTS)) @ gray @ across
    weighted: np.ndarray = rows * _weights(FINE)
    return weighted.reshape(len(gray), FINE**2)


def _unit(planes: np.ndarray) -> np.ndarray:
    rows = planes.reshape(len(planes), -1)[:, 1:]  # the first coefficient is the mean, with weight 0
    unit: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return unit


def _sampled(ends: np.ndarray, points: int = SIDE_PX) -> np.ndarray:
    """Return matrices (P, points, 32) that sample positions between `ends`, (P, 2) in 0..1, by linear interpolation."""
    share = (np.arange(points, dtype=np.float32) + 0.5) / points
    place = (ends[:, :1] + share * (ends[:, 1:] - ends[:, :1])) * SIDE_PX - 0.5
    low = np.clip(np.floor(place).astype(np.int64), 0, SIDE_PX - 2)
    part = np.clip(place - low, 0, 1).astype(np.float32)
    found = np.zeros((len(ends), points, SIDE_PX), np.float32)
    pair, position = np.arange(len(ends))[:, None], np.arange(points)[None]
    found[pair, position, low] = 1 - part
    found[pair, position, low + 1] = part
    return found
