"""Metrics beside accuracy: recall per class, balanced accuracy, macro F1 and calibration error.

Every meter takes the images batch by batch and keeps counts only. An image counts as wrong if one of its logits is
not finite, as in `accuracy.is_correct`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tcs_edge.errors import DataError
from tcs_edge.validation.chance import chance_accuracy
from tcs_edge.validation.statistics import wilson_interval

BINS = 15  # of equal width, as in Guo et al. 2017


def top1_confidences(logits: np.ndarray) -> np.ndarray:
    """Return float64 (N,): the largest softmax probability of finite logits (N, classes), in 1/classes..1."""
    scores = np.asarray(logits, dtype=np.float64)
    best: np.ndarray = 1 / np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)
    return best


def expected_calibration_error(
    outputs: np.ndarray, labels: np.ndarray, bins: int = BINS, *, probabilities: bool = False
) -> float:
    """Return the expected calibration error in 0..1 (Guo et al. 2017, arXiv 1706.04599, eq. 3).

    The confidence of an image is the largest probability among its classes. Bin m of M holds the confidences in
    ((m - 1) / M, m / M]. The error is the mean of |accuracy - confidence| over the bins, weighted by images. Noise
    within a bin adds to it, so few images inflate it.

    Args:
        outputs: logits float (N, classes), or probabilities with `probabilities`.
        labels: int (N,), classes in 0..classes - 1.
        bins: number of bins of equal width.
        probabilities: True if every row of `outputs` is a distribution over the classes.

    Raises:
        DataError: no images, another number of labels, values that are not finite, or no distributions.
    """
    outputs, labels = _checked(outputs, labels)
    if not np.isfinite(outputs).all():
        raise DataError("the calibration error needs finite outputs, but some are NaN or Inf.")
    if probabilities and not _are_distributions(outputs):
        raise DataError("probabilities must be in 0..1 with a sum of 1 per image. Pass logits without the flag.")
    confidences = outputs.max(axis=1) if probabilities else top1_confidences(outputs)
    meter = CalibrationMeter(bins)
    meter.add(confidences, outputs.argmax(axis=1) == labels)
    return meter.error()


class CalibrationMeter:
    """Accumulate the expected calibration error over `bins` bins of equal width; see the function of that name.

    Attributes:
        images, correct: int64 (bins,), number of images and of correct images per bin.
        confidence: float64 (bins,), sum of the confidences per bin.

    Raises:
        DataError: fewer than one bin.
    """

    def __init__(self, bins: int = BINS) -> None:
        if bins < 1:
            raise DataError(f"the calibration error needs at least one bin, got {bins}.")
        self.images = np.zeros(bins, dtype=np.int64)
        self.correct = np.zeros(bins, dtype=np.int64)
        self.confidence = np.zeros(bins)

    def add(self, confidences: np.ndarray, correct: np.ndarray) -> None:
        """Add a batch: confidences float (B,) in 0..1, and bool (B,), True for a correct image."""
        bins = len(self.images)
        inner_edges = np.arange(1, bins) / bins
        rows = np.digitize(confidences, inner_edges, right=True)
        self.images += np.bincount(rows, minlength=bins)
        self.correct += np.bincount(rows[correct], minlength=bins)
        self.confidence += np.bincount(rows, weights=confidences, minlength=bins)

    def error(self) -> float:
        """Return the error over all batches so far, in 0..1.

        Raises:
            DataError: nothing was added.
        """
        total = int(self.images.sum())
        if total == 0:
            raise DataError("the calibration error needs at least one image.")
        return float(np.abs(self.correct - self.confidence).sum() / total)


@dataclass(frozen=True)
class Recall:
    """Recall of one class with its 95 % Wilson interval, in 0..1; None for a class without images.

    Attributes:
        correct: number of correct images of the class.
        total: number of images of the class.
        predicted: number of images of any class with this prediction.
    """

    correct: int
    total: int
    predicted: int
    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of_counts(cls, correct: int, total: int, predicted: int) -> Recall:
        """Compute the recall of `correct` out of `total` images, total >= 0."""
        if total == 0:
            return cls(correct, total, predicted, None, None, None)
        return cls(correct, total, predicted, correct / total, *wilson_interval(correct, total))

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall in 0..1; None for a class without images."""
        return 2 * self.correct / (self.total + self.predicted) if self.total else None


@dataclass(frozen=True)
class Metrics:
    """Metrics of one model on one set of images, all in 0..1.

    The means are over classes with images. The others have no recall.

    Attributes:
        balanced_accuracy: mean recall.
        macro_f1: mean of the F1 scores.
        ece: expected calibration error; None if a logit is not finite.
        bins: number of the error's bins.
        recalls: one per class, in the order of the logits.
    """

    balanced_accuracy: float
    macro_f1: float
    ece: float | None
    bins: int
    recalls: tuple[Recall, ...]

    @property
    def chance(self) -> float:
        """Accuracy of these predictions by chance; see `chance_accuracy`."""
        return chance_accuracy([own.total for own in self.recalls], [own.predicted for own in self.recalls])

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values; the recalls become one list per field."""
        fields = ("correct", "total", "predicted", "value", "low", "high")
        return {
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "ece": self.ece,
            "bins": self.bins,
            "recalls": {field: [getattr(recall, field) for recall in self.recalls] for field in fields},
        }


class MetricsMeter:
    """Accumulate the metrics of one model batch by batch, in memory of the number of classes."""

    def __init__(self, bins: int = BINS) -> None:
        self._calibration = CalibrationMeter(bins)
        self._finite = True
        # One zero, because the first batch shows the number of classes. It broadcasts to them.
        self._correct = self._total = self._predicted = np.zeros(1, dtype=np.int64)

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Add a batch: logits float (B, classes), and labels int (B,) in 0..classes - 1.

        Raises:
            DataError: no images, another number of labels, or a label without a logit.
        """
        logits, labels = _checked(logits, labels)
        classes = logits.shape[1]
        finite = np.isfinite(logits).all(axis=1)
        self._finite &= bool(finite.all())
        known, predicted = labels[finite], logits[finite].argmax(axis=1)
        correct = predicted == known
        self._total = self._total + np.bincount(labels, minlength=classes)
        self._predicted = self._predicted + np.bincount(predicted, minlength=classes)
        self._correct = self._correct + np.bincount(known[correct], minlength=classes)
        self._calibration.add(top1_confidences(logits[finite]), correct)

    def result(self) -> Metrics:
        """Return the metrics of all batches so far.

        Raises:
            DataError: nothing was added.
        """
        if not self._total.any():
            raise DataError("metrics need at least one image.")
        counts = zip(self._correct.tolist(), self._total.tolist(), self._predicted.tolist(), strict=True)
        recalls = tuple(Recall.of_counts(*own) for own in counts)
        return Metrics(
            balanced_accuracy=_mean([recall.value for recall in recalls]),
            macro_f1=_mean([recall.f1 for recall in recalls]),
            ece=self._calibration.error() if self._finite else None,
            bins=len(self._calibration.images),
            recalls=recalls,
        )


def _checked(outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays; refuse shapes that do not fit, and labels outside of the classes."""
    outputs, labels = np.asarray(outputs), np.asarray(labels)
    if outputs.ndim != 2 or labels.shape != outputs.shape[:1] or outputs.size == 0:
        raise DataError(f"metrics need outputs (N, classes) and N labels, got {outputs.shape} and {labels.shape}.")
    if labels.min() < 0 or labels.max() >= outputs.shape[1]:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"label {wrong} is not among the model's {outputs.shape[1]} classes.")
    return outputs, labels


def _are_distributions(outputs: np.ndarray) -> bool:
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1, dtype=np.float64), 1.0, rtol=0, atol=1e-3))


def _mean(values: list[float | None]) -> float:
    """Return the mean of the values that are not None; there is at least one."""
    return float(np.mean([value for value in values if value is not None]))
