"""Ridge regression of features onto targets, cross-validated in closed form.

A linear smoother's error on an image that it was not fitted on follows from its error on one that it was: divided by
one minus the image's leverage (Allen 1974; Golub, Heath, Wahba 1979). So one eigendecomposition gives the
leave-one-out errors of every target and every penalty exactly, without a random split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Shares of the features' mean squared singular value.
PENALTIES: tuple[float, ...] = tuple(10.0**power for power in range(-5, 3))
# Below this share of the largest squared singular value a direction is rounding noise.
RELATIVE_RANK_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Alignment:
    """How much of the teacher and of the task lies in some features, on images left out of each fit.

    Attributes:
        r2: share of the coordinates' variance that the features predict, at most 1; 0 is no better than the mean.
        accuracy: of the label with the largest prediction, 0..1.
    """

    r2: float
    accuracy: float

    @property
    def percent(self) -> float:
        """Mean of both in percent, 0..100: what TCS asks of a student is the coordinates and the labels."""
        return 50 * (max(self.r2, 0.0) + self.accuracy)


def align(features: np.ndarray, coordinates: np.ndarray, labels: np.ndarray) -> Alignment:
    """Ridge regression of `features` onto coordinates and labels, each with the penalty that suits it best.

    Args:
        features: (n, d), any float type, n >= 2.
        coordinates: (n, k).
        labels: int (n,), 0 or more.
    """
    answers = np.eye(int(labels.max()) + 1)[labels]
    targets = np.hstack([coordinates.astype(np.float64), answers])
    k, r2, accuracy = coordinates.shape[1], -np.inf, 0.0
    baseline = _baseline(targets[:, :k])
    for errors in leave_one_out(features, targets):
        r2 = max(r2, 1 - float(np.square(errors[:, :k]).sum()) / baseline)
        predicted = (answers - errors[:, k:]).argmax(axis=1)
        accuracy = max(accuracy, float((predicted == labels).mean()))
    return Alignment(r2, accuracy)


def leave_one_out(
    features: np.ndarray, targets: np.ndarray, penalties: Sequence[float] = PENALTIES
) -> Iterator[np.ndarray]:
    """For each penalty the errors float64 (n, m): row i is target i minus what the other rows predict of it.

    The intercept is not penalized. A penalty is a share of the features' mean squared singular value.

    Args:
        features: (n, d); targets: (n, m); n >= 2.
    """
    left, squares = _left_singular(features.astype(np.float64) - features.mean(axis=0, dtype=np.float64))
    centered = targets - targets.mean(axis=0)
    projected = left.T @ centered
    for penalty in penalties:
        shrink = squares / (squares + penalty * squares.mean()) if len(squares) else squares
        fitted = left @ (shrink[:, None] * projected)
        leverage = 1 / len(targets) + np.square(left) @ shrink
        yield (centered - fitted) / (1 - leverage)[:, None]


def _baseline(targets: np.ndarray) -> float:
    """Squared error of predicting each row by the mean of the others; 1 where nothing varies."""
    count = len(targets)
    centered = (targets - targets.mean(axis=0)) * count / (count - 1)
    return float(np.square(centered).sum()) or 1.0


def _left_singular(centered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (n, r) and squared singular values (r,) > 0 of (n, d), by the smaller Gram matrix."""
    wide = centered.shape[1] > centered.shape[0]
    squares, vectors = np.linalg.eigh(centered @ centered.T if wide else centered.T @ centered)
    kept = squares > max(squares[-1], 0.0) * RELATIVE_RANK_TOLERANCE
    squares, vectors = squares[kept], vectors[:, kept]
    return (vectors, squares) if wide else (centered @ vectors / np.sqrt(squares), squares)
