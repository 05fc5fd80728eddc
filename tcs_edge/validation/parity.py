"""Measure the distance of a model's logits from the reference, batch by batch."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tcs_edge.errors import DataError

TOP = 5
KEPT_FLIPS = 1000  # bounds the memory for a model with many flips


@dataclass(frozen=True)
class Flip:
    """Image with another class than in the reference.

    `margin` is the difference of the two classes' logits in the reference. A flip with a margin of 1e-5 is
    rounding, one of 5 is a wrong model. `image` is the image's name, or empty.
    """

    index: int
    reference_class: int
    model_class: int
    margin: float
    image: str = ""


@dataclass(frozen=True)
class Parity:
    """Distance between two sets of logits (N, classes) on the same images.

    Attributes:
        max_abs_diff: largest |difference| of a logit; inf unless all logits are finite.
        max_rel_diff: `max_abs_diff` divided by the largest |logit| of the reference.
        min_cosine: smallest cosine between the two logit vectors of an image.
        top1_agreement: fraction of images with the same class, in 0..1.
        flips: the images that changed class, the largest margin first, at most `KEPT_FLIPS`.
        finite: True if no logit is NaN or Inf; otherwise the other fields are meaningless.
        sqnr_db: signal to quantization noise, 10 log10(sum reference^2 / sum difference^2), over all
            logits; inf for equal logits.
        top5_agreement: mean fraction of the reference's five best classes among the model's five, in 0..1;
            always 1 for up to five classes.
        flipped: number of images that changed class.
    """

    max_abs_diff: float
    max_rel_diff: float
    min_cosine: float
    top1_agreement: float
    flips: tuple[Flip, ...]
    finite: bool
    sqnr_db: float = math.inf
    top5_agreement: float = 1.0
    flipped: int = 0

    @property
    def worst_margin(self) -> float:
        """Largest margin of a changed class; 0 without any."""
        return max((flip.margin for flip in self.flips), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values; numbers that are not finite become null."""
        document = asdict(self) | {"flips": [asdict(flip) for flip in self.flips]}
        return {key: None if _is_infinite(value) else value for key, value in document.items()}


BROKEN = Parity(math.inf, math.inf, -1.0, 0.0, (), finite=False, sqnr_db=-math.inf, top5_agreement=0.0)


def compare(reference: np.ndarray, logits: np.ndarray) -> Parity:
    """Measure the distance of `logits` from `reference`, both float (N, classes).

    Raises:
        DataError: no images, or different shapes.
    """
    meter = ParityMeter()
    meter.add(reference, logits)
    return meter.result()


@dataclass
class ParityMeter:
    """Accumulate the distance of two models batch by batch, in constant memory.

    `scale` is the largest finite |logit| of the reference so far.
    """

    images: int = 0
    scale: float = 0.0
    finite: bool = True
    _largest: float = 0.0
    _min_cosine: float = 1.0
    _signal: float = 0.0
    _noise: float = 0.0
    _top5: float = 0.0
    _flipped: int = 0
    _worst: list[tuple[float, int, Flip]] = field(default_factory=list)

    def add(self, reference: np.ndarray, logits: np.ndarray, names: Sequence[str] = ()) -> None:
        """Add a batch: both float (B, classes), `names` one per image or empty.

        Raises:
            DataError: no images, or different shapes.
        """
        if reference.ndim != 2 or reference.shape != logits.shape or reference.size == 0:
            raise DataError(f"both logits must have one shape (N, classes), got {reference.shape} and {logits.shape}.")
        start, self.images = self.images, self.images + len(reference)
        self.finite &= bool(np.isfinite(reference).all() and np.isfinite(logits).all())
        if self.finite:
            self._add_finite(reference.astype(np.float64), logits.astype(np.float64), names, start)

    def result(self) -> Parity:
        """Return the distance over all batches so far.

        Raises:
            DataError: nothing was added.
        """
        if self.images == 0:
            raise DataError("there are no logits to compare. Pass at least one image.")
        if not self.finite:
            return BROKEN
        return Parity(
            max_abs_diff=self._largest,
            max_rel_diff=_ratio(self._largest, self.scale),
            min_cosine=self._min_cosine,
            top1_agreement=1.0 - self._flipped / self.images,
            flips=tuple(flip for _, _, flip in sorted(self._worst, reverse=True)),
            finite=True,
            sqnr_db=_decibel(self._signal, self._noise),
            top5_agreement=self._top5 / self.images,
            flipped=self._flipped,
        )

    def _add_finite(self, reference: np.ndarray, logits: np.ndarray, names: Sequence[str], start: int) -> None:
        difference = reference - logits
        self.scale = max(self.scale, float(np.abs(reference).max()))
        self._largest = max(self._largest, float(np.abs(difference).max()))
        self._min_cosine = min(self._min_cosine, float(_cosines(reference, logits).min()))
        self._signal += float(np.square(reference).sum())
        self._noise += float(np.square(difference).sum())
        self._top5 += float(_shared_best(reference, logits).sum())
        for flip in _flips(reference, logits, names, start):
            self._flipped += 1
            # The index makes every entry unique, so the heap never compares two flips.
            heapq.heappush(self._worst, (flip.margin, -flip.index, flip))
            if len(self._worst) > KEPT_FLIPS:
                heapq.heappop(self._worst)


def _flips(reference: np.ndarray, logits: np.ndarray, names: Sequence[str], start: int) -> list[Flip]:
    before, after = reference.argmax(axis=1), logits.argmax(axis=1)
    rows = [int(row) for row in np.flatnonzero(before != after)]
    return [
        Flip(
            index=start + row,
            reference_class=int(before[row]),
            model_class=int(after[row]),
            margin=float(reference[row, before[row]] - reference[row, after[row]]),
            image=names[row] if names else "",
        )
        for row in rows
    ]


def _shared_best(reference: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return (N,), the fraction of the reference's `TOP` best classes among the model's; ties favor the lower class."""
    count = min(TOP, reference.shape[1])
    best, own = (np.argsort(-values, axis=1, kind="stable")[:, :count] for values in (reference, logits))
    shared: np.ndarray = (best[:, :, None] == own[:, None, :]).any(axis=2).mean(axis=1)
    return shared


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosines (N,): 1 for two zero vectors, 0 for a zero and another vector."""
    norms = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    product = norms[0] * norms[1]
    cosines = (first * second).sum(axis=1) / np.where(product > 0, product, 1.0)
    both_zero = (norms[0] == 0) & (norms[1] == 0)
    return np.where(both_zero, 1.0, np.clip(cosines, -1.0, 1.0))


def _decibel(signal: float, noise: float) -> float:
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def _ratio(value: float, scale: float) -> float:
    if value == 0.0:
        return 0.0
    return value / scale if scale > 0.0 else math.inf


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
