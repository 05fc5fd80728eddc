"""Accuracy by chance, for any numbers of images per class. The gate imports this without numpy and scipy."""

from __future__ import annotations

from collections.abc import Sequence


def chance_accuracy(totals: Sequence[int], predicted: Sequence[int]) -> float:
    """Return the expected accuracy in 0..1 of predictions that do not depend on the image (Cohen 1960, p_e).

    It is 1 / classes for equally many images per class. For unequal classes it is higher: a model that always gives
    the most frequent class is at chance, whatever its accuracy.

    Args:
        totals: number of images per class, at least one in all.
        predicted: number of images with this prediction, per class.
    """
    images = sum(totals)
    return sum(total * own for total, own in zip(totals, predicted, strict=True)) / images**2
