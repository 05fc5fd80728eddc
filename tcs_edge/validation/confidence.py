"""Calibrate the probabilities of a classifier, and choose the threshold of the largest one for unknown images.

The temperature is fitted on the validation images (Guo et al. 2017, arXiv 1706.04599, section 4.2). It divides
all logits, so the class of an image does not change.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

LARGEST_TEMPERATURE = 100.0


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature, in 0.01..100, with the least cross-entropy on logits (N, classes) and labels int (N,).

    The labels are smoothed by one image with another class, as Platt does (1999, section 2.2). Without it, a model
    without errors on few images would get infinite confidence. Return 1 without finite logits.
    """
    good = np.isfinite(logits).all(axis=1)
    rows, own = logits[good].astype(np.float64), labels[good]
    if len(rows) == 0 or rows.shape[1] < 2:
        return 1.0
    wrong = 1 / (len(rows) + 2)
    targets = np.full(rows.shape, wrong / (rows.shape[1] - 1))
    targets[np.arange(len(rows)), own] = 1 - wrong

    def cross_entropy(log_temperature: float) -> float:
        return float(-(targets * log_softmax(rows / math.exp(log_temperature), axis=1)).sum(axis=1).mean())

    limit = math.log(LARGEST_TEMPERATURE)
    return math.exp(float(minimize_scalar(cross_entropy, bounds=(-limit, limit), method="bounded").x))


def unknown_threshold(scores: np.ndarray, false_alarm_rate: float) -> float | None:
    """Return the threshold below which the score of at most `false_alarm_rate` of known images lies.

    As in split conformal prediction, the threshold is one of the N scores, float (N,). A new image of the same kind
    as these N is below the k-th smallest with probability k / (N + 1).

    Returns:
        None if N is too small for the rate: 5 % needs 19 images.
    """
    rank = math.floor(false_alarm_rate * (len(scores) + 1) + 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank >= 1 else None
