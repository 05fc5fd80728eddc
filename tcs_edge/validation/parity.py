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
        max_centered_diff: largest distance between the two logit vectors of an image, each minus its mean, over the
            norm of the reference's. Images with a norm below the root mean square of all norms use that instead,
            because rounding turns a vector near zero without any effect on its softmax probabilities.
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
    max_centered_diff: float
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


BROKEN = Parity(math.inf, math.inf, math.inf, 0.0, (), finite=False, sqnr_db=-math.inf, top5_agreement=0.0)


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
    """Accumulate the distance of two models batch by batch, in two numbers per image.

    `scale` is the largest finite |logit| of the reference so far.
    """

    images: int = 0
    scale: float = 0.0
    finite: bool = True
    _largest: float = 0.0
    _centered: list[np.ndarray] = field(default_factory=list)
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
            max_centered_diff=_largest_share(np.concatenate(self._centered, axis=1)),
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
        self._centered.append(np.stack([_centered_norms(difference), _centered_norms(reference)]))
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


def _centered_norms(logits: np.ndarray) -> np.ndarray:
    """Return the norms (N,) of logits (N, classes) minus their mean, which softmax ignores."""
    norms: np.ndarray = np.linalg.norm(logits - logits.mean(axis=1, keepdims=True), axis=1)
    return norms


def _largest_share(norms: np.ndarray) -> float:
    """Return the largest difference over the reference's norm, at least the root mean square, for norms (2, N)."""
    differences, references = norms
    floor = math.sqrt(float(np.square(references).mean()))
    return max(_ratio(float(d), max(float(r), floor)) for d, r in zip(differences, references, strict=True))


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
