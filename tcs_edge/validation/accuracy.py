"""Accuracy with its confidence interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from tcs_edge.errors import DataError
from tcs_edge.validation.statistics import accuracy_drop, mcnemar_of_counts, wilson_interval


@dataclass(frozen=True)
class Accuracy:
    """Fraction of correctly classified images, `value` in 0..1, with its 95 % Wilson interval."""

    correct: int
    total: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray) -> Self:
        """Compute the accuracy of logits (N, classes) for labels int (N,); logits that are not finite count as wrong.

        Raises:
            DataError: no images, or a different number of labels.
        """
        if len(labels) == 0 or len(logits) != len(labels):
            raise DataError(f"accuracy needs one label per image, got {len(logits)} images and {len(labels)} labels.")
        return cls.of_counts(int(is_correct(logits, labels).sum()), len(labels))

    @classmethod
    def of_counts(cls, correct: int, total: int) -> Self:
        """Compute the accuracy of `correct` out of `total` images, total > 0."""
        return cls(correct, total, correct / total, *wilson_interval(correct, total))

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class PairedAccuracy:
    """Accuracy of a model against the reference on the same images.

    Attributes:
        only_reference, only_model: number of images that only this model classified correctly.
        p_value: McNemar's exact test of equal accuracy.
        drop: accuracy lost against the reference, in -1..1.
        drop_high: its one-sided 95 % upper bound.
    """

    only_reference: int
    only_model: int
    p_value: float
    drop: float
    drop_high: float

    @classmethod
    def of_counts(cls, only_reference: int, only_model: int, total: int) -> Self:
        """Compute the comparison from the numbers of discordant images out of `total`."""
        drop = accuracy_drop(only_reference, only_model, total)
        p_value = mcnemar_of_counts(only_reference, only_model).p_value
        return cls(only_reference, only_model, p_value, drop.value, drop.high)

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)


def is_correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return bool (N,): True if the label has the highest of the logits (N, classes) and all are finite."""
    finite = np.isfinite(logits).all(axis=1)
    correct: np.ndarray = finite & (np.nan_to_num(logits).argmax(axis=1) == labels)
    return correct
