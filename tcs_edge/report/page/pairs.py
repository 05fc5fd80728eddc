"""Compare the accuracies of runs on the same test images by paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tcs_edge.report.page.contents import RunContents
from tcs_edge.runs.schema import AccuracyRecord
from tcs_edge.validation.statistics import McNemar, mcnemar_exact

REFERENCE = "pytorch"
LEVEL = 0.05


@dataclass(frozen=True)
class Pair:
    """Two runs, by position; without images in common `test` is None and `why_not` has the reason.

    `adjusted_p` is the p-value after Holm's correction for all pairs of the comparison.
    """

    first: int
    second: int
    test: McNemar | None
    adjusted_p: float = 1.0
    why_not: str = ""

    @property
    def better(self) -> int | None:
        """Position of the run that is shown to be more accurate; None if no difference is shown."""
        if self.test is None or self.adjusted_p >= LEVEL:
            return None
        return self.first if self.test.only_first > self.test.only_second else self.second


def deployed(run: RunContents) -> str | None:
    """Return the name of the first export, or of the trained model without one."""
    here = (REFERENCE, *run.manifest.only_here)
    exported = next((name for name in run.manifest.accuracy if name not in here), None)
    return exported or (REFERENCE if REFERENCE in run.manifest.accuracy else None)


def deployed_accuracy(run: RunContents) -> AccuracyRecord | None:
    """Return the accuracy of `deployed`."""
    name = deployed(run)
    return run.manifest.accuracy[name] if name else None


def paired_tests(runs: Sequence[RunContents]) -> tuple[Pair, ...]:
    """Apply McNemar's exact test to every pair of runs, with Holm's correction (Holm 1979)."""
    pairs = [_pair(runs, first, second) for first, second in combinations(range(len(runs)), 2)]
    tested = sorted((pair for pair in pairs if pair.test), key=lambda pair: pair.test.p_value if pair.test else 1.0)
    adjusted: dict[tuple[int, int], float] = {}
    largest = 0.0
    for rank, pair in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * (pair.test.p_value if pair.test else 1.0)))
        adjusted[pair.first, pair.second] = largest
    return tuple(
        Pair(pair.first, pair.second, pair.test, adjusted.get((pair.first, pair.second), 1.0), pair.why_not)
        for pair in pairs
    )


def best_run(pairs: Sequence[Pair], runs: int) -> int | None:
    """Return the position of the run that is shown to be more accurate than every other; None without one."""
    return next((run for run in range(runs) if sum(pair.better == run for pair in pairs) == runs - 1), None)


def _pair(runs: Sequence[RunContents], first: int, second: int) -> Pair:
    one, other = runs[first], runs[second]
    if one.manifest.dataset.fingerprint != other.manifest.dataset.fingerprint:
        return Pair(first, second, None, why_not="tested on other images, so the accuracies are not comparable")
    right, also = correct_images(one), correct_images(other)
    if right is None or also is None:
        return Pair(first, second, None, why_not="one of the runs has no record of every image")
    if right.keys() != also.keys():
        return Pair(first, second, None, why_not="the runs name other test images")
    names = sorted(right)
    return Pair(
        first,
        second,
        mcnemar_exact(np.array([right[name] for name in names]), np.array([also[name] for name in names])),
    )


def correct_images(run: RunContents) -> dict[str, bool] | None:
    """Return for every test image if `deployed` classified it correctly; None without a record of every image.

    The record has the classes of the trained model, and the images that changed class in an export.
    """
    name, record = deployed(run), run.predictions
    if name is None or record is None or len(set(record.names)) != len(record.names):
        return None
    predicted = list(record.predicted)
    parity = run.validation.parities.get(name)
    if name != REFERENCE:
        if parity is None or not parity.finite or len(parity.flips) != parity.changed:
            return None
        for flip in parity.flips:
            if not 0 <= flip.index < len(predicted):
                return None
            predicted[flip.index] = flip.model_class
    rows = zip(record.names, record.labels, predicted, strict=True)
    return {image: label == guess for image, label, guess in rows}
