"""Calibrate the probabilities of a classifier, and choose the threshold of the largest one for unknown images.

The temperature is fitted on the validation images (Guo et al. 2017, arXiv 1706.04599, section 4.2). It divides
all logits, so the class of an image does not change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from scipy.special import log_softmax

from tcs_edge.specs.confidence import Confidence
from tcs_edge.validation.metrics import CalibrationMeter, top1_confidences
from tcs_edge.validation.statistics import wilson_interval

LARGEST_TEMPERATURE = 100.0


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature, in 0.01..100, with the least cross-entropy on logits (N, classes) and labels int (N,).

    The labels are smoothed by one image with another class, as Platt does (1999, section 2.2). Without it, a model
    without errors on few images would get infinite confidence. Return 1 without finite logits.
    """
    from scipy.optimize import minimize_scalar  # imported here: it takes long, and most commands fit nothing

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


@dataclass(frozen=True)
class FalseAlarms:
    """Images of known classes that a model calls unknown: count, share in 0..1 and its 95 % Wilson interval."""

    count: int
    total: int
    value: float
    low: float
    high: float

    @classmethod
    def of_counts(cls, count: int, total: int) -> Self:
        """Compute the share of `count` out of `total` images, total > 0."""
        return cls(count, total, count / total, *wilson_interval(count, total))


@dataclass(frozen=True)
class ConfidenceResult:
    """Measured confidence of a calibrated model and its exports on the test images.

    Attributes:
        confidence: temperature and threshold, from the validation images.
        ece_before: expected calibration error with temperature 1, in 0..1; None if a logit is not finite.
        false_alarms: per runner; empty without a threshold.
    """

    confidence: Confidence
    ece_before: float | None
    false_alarms: dict[str, FalseAlarms]

    def to_json(self) -> dict[str, Any]:
        """Return temperature, threshold and results as a JSON document."""
        alarms = {name: asdict(found) for name, found in self.false_alarms.items()}
        known = self.confidence.model_dump(mode="json", exclude={"schema_version"})
        return known | {"ece_before": self.ece_before, "false_alarms": alarms}


def count_unknown(logits: np.ndarray, confidence: Confidence | None) -> int:
    """Count the unknown images among logits float (B, classes); 0 without a threshold."""
    if confidence is None or confidence.unknown is None:
        return 0
    finite = np.isfinite(logits).all(axis=1)
    return int((top1_confidences(logits[finite]) < confidence.unknown.below).sum())


@dataclass
class UncalibratedMeter:
    """Accumulate the expected calibration error that a calibrated model had before its temperature."""

    confidence: Confidence
    _calibration: CalibrationMeter = field(default_factory=CalibrationMeter)
    _finite: bool = True

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Add a batch: logits of the calibrated model, float (B, classes), and labels int (B,)."""
        finite = np.isfinite(logits).all(axis=1)
        self._finite &= bool(finite.all())
        before = logits[finite].astype(np.float64) * self.confidence.temperature
        self._calibration.add(top1_confidences(before), before.argmax(axis=1) == labels[finite])

    def result(self, unknown: Mapping[str, int], images: int) -> ConfidenceResult:
        """Return the results, for the number of `unknown` ones among `images` per runner."""
        alarms = {name: FalseAlarms.of_counts(count, images) for name, count in unknown.items()}
        known = self.confidence.unknown is not None
        error = self._calibration.error() if self._finite else None
        return ConfidenceResult(self.confidence, error, alarms if known else {})
