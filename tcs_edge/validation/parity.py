"""How far one model's logits are from the reference's."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tcs_edge.errors import DataError


@dataclass(frozen=True)
class Flip:
    """An image that got another class.

    `margin` is how far the reference put its own class above the one the model chose: a flip at 1e-5 is
    rounding, one at 5 is a wrong model.
    """

    index: int
    reference_class: int
    model_class: int
    margin: float


@dataclass(frozen=True)
class Parity:
    """Distance between two sets of logits (N, classes) on the same images.

    Attributes:
        max_abs_diff: largest |difference| of a logit; inf unless all logits are finite.
        max_rel_diff: the same, divided by the largest |logit| of the reference.
        min_cosine: smallest cosine between the two logit vectors of an image.
        top1_agreement: share of images with the same class, in 0..1.
        flips: the other images.
        finite: no logit of either is NaN or Inf; the rest means nothing otherwise.
    """

    max_abs_diff: float
    max_rel_diff: float
    min_cosine: float
    top1_agreement: float
    flips: tuple[Flip, ...]
    finite: bool

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values; numbers that are not finite become null."""
        document = asdict(self) | {"flips": [asdict(flip) for flip in self.flips]}
        return {key: None if _is_infinite(value) else value for key, value in document.items()}


BROKEN = Parity(math.inf, math.inf, -1.0, 0.0, (), finite=False)


def compare(reference: np.ndarray, logits: np.ndarray) -> Parity:
    """Distance of `logits` from `reference`, both float (N, classes).

    Raises:
        DataError: no images, or shapes that differ.
    """
    if reference.ndim != 2 or reference.shape != logits.shape or reference.size == 0:
        raise DataError(f"logits to compare must be (N, classes) twice, got {reference.shape}, {logits.shape}.")
    if not (np.isfinite(reference).all() and np.isfinite(logits).all()):
        return BROKEN
    reference, logits = reference.astype(np.float64), logits.astype(np.float64)
    largest = float(np.abs(reference - logits).max())
    flips = _flips(reference, logits)
    return Parity(
        max_abs_diff=largest,
        max_rel_diff=_ratio(largest, float(np.abs(reference).max())),
        min_cosine=float(_cosines(reference, logits).min()),
        top1_agreement=1.0 - len(flips) / len(reference),
        flips=flips,
        finite=True,
    )


def _flips(reference: np.ndarray, logits: np.ndarray) -> tuple[Flip, ...]:
    before, after = reference.argmax(axis=1), logits.argmax(axis=1)
    return tuple(
        Flip(int(i), int(before[i]), int(after[i]), float(reference[i, before[i]] - reference[i, after[i]]))
        for i in np.flatnonzero(before != after)
    )


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) cosines; two zero vectors point the same way, a zero and another one do not."""
    norms = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    product = norms[0] * norms[1]
    cosines = (first * second).sum(axis=1) / np.where(product > 0, product, 1.0)
    both_zero = (norms[0] == 0) & (norms[1] == 0)
    return np.where(both_zero, 1.0, np.clip(cosines, -1.0, 1.0))


def _ratio(value: float, scale: float) -> float:
    if value == 0.0:
        return 0.0
    return value / scale if scale > 0.0 else math.inf


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
