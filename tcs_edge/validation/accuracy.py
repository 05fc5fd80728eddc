"""Accuracy, never without its interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from tcs_edge.errors import DataError
from tcs_edge.validation.statistics import wilson_interval


@dataclass(frozen=True)
class Accuracy:
    """Share of correctly classified images, `value` in 0..1, with its 95 % Wilson interval."""

    correct: int
    total: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray) -> Self:
        """Accuracy of logits (N, classes) for labels int (N,); logits that are not finite count as wrong.

        Raises:
            DataError: no images at all, or another number of labels.
        """
        if len(labels) == 0 or len(logits) != len(labels):
            raise DataError(f"accuracy needs one label per image, got {len(logits)} images, {len(labels)} labels.")
        correct, total = int(is_correct(logits, labels).sum()), len(labels)
        return cls(correct, total, correct / total, *wilson_interval(correct, total))

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)


def is_correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool (N,): the highest of logits (N, classes) is the label, and all of them are finite."""
    finite = np.isfinite(logits).all(axis=1)
    return finite & (np.nan_to_num(logits).argmax(axis=1) == labels)
