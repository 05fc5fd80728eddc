"""Alignment of features with the teacher's coordinates and the labels: leave-one-out ridge regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Ridge penalties, as multiples of the features' mean squared singular value.
PENALTIES: tuple[float, ...] = tuple(10.0**power for power in range(-5, 3))
# A direction below this share of the largest singular value is rounding noise.
RELATIVE_RANK_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Alignment:
    """Fit of features to the teacher's coordinates and the labels, on images left out of each fit.

    Attributes:
        r2: share of the coordinates' variance that the features predict, at most 1; 0 equals predicting the mean.
        accuracy: accuracy of the label with the largest prediction, 0..1.
    """

    r2: float
    accuracy: float

    @property
    def percent(self) -> float:
        """Mean of both in percent, 0..100: a TCS student learns the coordinates and the labels."""
        return 50 * (max(self.r2, 0.0) + self.accuracy)


def align(features: np.ndarray, coordinates: np.ndarray, labels: np.ndarray) -> Alignment:
    """Fit ridge regressions of coordinates and labels on `features`, each with its best penalty.

    Args:
        features: (n, d), any float type, n >= 2.
        coordinates: (n, k).
        labels: int (n,), 0 or more.
    """
    targets = np.hstack([coordinates.astype(np.float64), np.eye(int(labels.max()) + 1)[labels]])
    k, r2, accuracy = coordinates.shape[1], -np.inf, 0.0
    baseline = _baseline(targets[:, :k])
    for predicted in _leave_one_out(features.astype(np.float64), targets):
        squared_error = float(np.square(targets[:, :k] - predicted[:, :k]).sum())
        r2 = max(r2, 1 - squared_error / baseline)
        accuracy = max(accuracy, float((predicted[:, k:].argmax(axis=1) == labels).mean()))
    return Alignment(r2, accuracy)


def _leave_one_out(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Predict each row of targets (n, m) by a fit on the other rows of features (n, d): (penalties, n, m)."""
    from sklearn.linear_model import RidgeCV  # here: the import takes a second

    centered = features - features.mean(axis=0)
    rank = int(np.linalg.matrix_rank(centered, rtol=RELATIVE_RANK_TOLERANCE))
    mean_square = np.square(centered).sum() / rank if rank else 1.0
    # With `scoring`, scikit-learn keeps predictions instead of squared errors.
    fitted = RidgeCV(mean_square * np.array(PENALTIES), scoring="neg_mean_squared_error", store_cv_results=True)
    return np.moveaxis(fitted.fit(centered, targets).cv_results_, -1, 0)


def _baseline(targets: np.ndarray) -> float:
    """Squared error of predicting each row by the mean of the others; 1 if all rows are equal."""
    count = len(targets)
    centered = (targets - targets.mean(axis=0)) * count / (count - 1)
    return float(np.square(centered).sum()) or 1.0
