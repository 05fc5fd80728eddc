"""Compute intervals and tests for accuracies. scipy.stats is imported when it is used: it takes half a second."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri


@dataclass(frozen=True)
class McNemar:
    """Comparison of two classifiers on the same images.

    Attributes:
        only_first, only_second: number of images that only this classifier got right.
        p_value: two-sided exact probability of a split at least this uneven, if both are equally good.
    """

    only_first: int
    only_second: int
    p_value: float


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the Wilson score interval of a proportion (Wilson 1927), both ends in 0..1.

    Raises:
        ValueError: not 0 <= correct <= total, or total is 0.
    """
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"need 0 <= correct <= total and total > 0, got {correct} of {total}")
    from scipy import stats

    interval = stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_exact(first_correct: np.ndarray, second_correct: np.ndarray) -> McNemar:
    """Apply McNemar's exact test (McNemar 1947) to bool (N,) vectors of the same images.

    Only images with one correct classifier count. For equally good classifiers each is a coin toss.
    """
    return mcnemar_of_counts(int(np.sum(first_correct & ~second_correct)), int(np.sum(~first_correct & second_correct)))


def mcnemar_of_counts(only_first: int, only_second: int) -> McNemar:
    """Apply McNemar's exact test to the numbers of images that only one classifier got right."""
    discordant = only_first + only_second
    from scipy import stats

    p_value = stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1.0
    return McNemar(only_first, only_second, float(p_value))


def least_above_chance(total: int, chance: float, confidence: float = 0.95) -> int:
    """Return the fewest correct images, out of `total`, that are significantly more than `chance`, in 0..1.

    One-sided exact binomial test. If even `total` correct images are not significant, return the fewest above
    chance.
    """
    from scipy import stats

    least = int(stats.binom.isf(1 - confidence, total, chance)) + 1
    return least if least <= total else math.floor(total * chance + 1e-9) + 1


@dataclass(frozen=True)
class Drop:
    """Accuracy that the second of two classifiers loses on the same images.

    Attributes:
        value: accuracy of the first minus that of the second, in -1..1.
        high: one-sided 95 % upper bound of the loss on future images.
    """

    value: float
    high: float


def accuracy_drop(only_first: int, only_second: int, total: int, confidence: float = 0.95) -> Drop:
    """Compute the loss and its one-sided upper bound, for a test of non-inferiority.

    Adjusted Wald interval of a difference of paired proportions (Bonett and Price 2012, eq. 3). One
    image is added to each of the two discordant counts, which keeps the coverage in small samples.

    Args:
        only_first, only_second: number of images that only this classifier got right.

    Raises:
        ValueError: negative counts, or more than `total` images.
    """
    if min(only_first, only_second) < 0 or total < max(1, only_first + only_second):
        raise ValueError(f"need counts that fit {total} images, got {only_first} and {only_second}")
    lost, won = (only_first + 1) / (total + 2), (only_second + 1) / (total + 2)
    error = math.sqrt((lost + won - (lost - won) ** 2) / (total + 2))
    high = lost - won + float(ndtri(confidence)) * error
    return Drop((only_first - only_second) / total, min(1.0, high))


def images_to_show(margin: float, confidence: float = 0.95) -> float:
    """Return the fewest images on which two equal classifiers show a loss of at most `margin`; inf for a margin of 0.

    Solves `accuracy_drop(0, 0, n).high <= margin` for n: the bound is z sqrt(2) / (n + 2).
    """
    if margin <= 0:
        return math.inf
    return max(1, math.ceil(float(ndtri(confidence)) * math.sqrt(2) / margin - 2))
