"""Keep the prediction of a model for every image in little memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np

from tcs_edge.validation.metrics import top1_confidences


@dataclass(frozen=True)
class Predictions:
    """Per image: its label, the class of the largest logit, and that class's softmax probability in 0..1.

    Class and probability are None if a logit is not finite.
    """

    labels: tuple[int, ...]
    predicted: tuple[int | None, ...]
    confidences: tuple[float | None, ...]

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray) -> Self:
        """Compute the predictions of logits float (N, classes) for labels int (N,)."""
        finite = np.isfinite(logits).all(axis=1)
        safe = np.where(finite[:, None], logits, 0.0).astype(np.float64)
        rows = list(zip(finite.tolist(), safe.argmax(axis=1).tolist(), top1_confidences(safe).tolist(), strict=True))
        return cls(
            labels=tuple(labels.tolist()),
            predicted=tuple(choice if good else None for good, choice, _ in rows),
            confidences=tuple(round(chance, 6) if good else None for good, _, chance in rows),
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Concatenate the predictions of several batches."""
        return cls(
            labels=tuple(chain.from_iterable(part.labels for part in parts)),
            predicted=tuple(chain.from_iterable(part.predicted for part in parts)),
            confidences=tuple(chain.from_iterable(part.confidences for part in parts)),
        )
