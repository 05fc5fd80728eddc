"""Images that are blurred, dark, overexposed, all of one gray value, tiny or long, and classes with few images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tcs_edge.check.images import CheckedImages
from tcs_edge.check.thumbnails import Thumbnails

EVEN_RANGE = 2  # gray values
DARK, BRIGHT = 50, 240  # gray values: 95 % of a dark image are below, 95 % of an overexposed one above
# Sharp photos had a blur effect of 0.15 to 0.45 (four data sets); Gaussian blur of 2 % of the side gave 0.6 to 0.85.
BLURRED, ABOVE_MEDIAN = 0.55, 0.15
TINY_PX, TINY_SHARE = 32, 0.25  # of the median shorter side
LONG_RATIO, LONG_SHARE = 3.0, 2.0  # of the median ratio
FEW_IMAGES, FEW_SHARE = 10, 0.1  # of the largest class


@dataclass(frozen=True)
class Flaw:
    """An image of doubtful quality.

    Attributes:
        row: position of the image.
        kind: "all equal", "dark", "overexposed", "blurred", "tiny" or "long".
        detail: the measured value.
    """

    row: int
    kind: str
    detail: str


@dataclass(frozen=True)
class ClassCount:
    """Labeled images of a class; `few` marks a class with too few of them."""

    name: str
    images: int
    few: bool


def find_flaws(checked: CheckedImages, seen: Thumbnails) -> list[Flaw]:
    """Find images of doubtful quality; an image has the first kind that applies, the clearest images come first."""
    sizes = stored_sizes(checked)
    shorter, ratio = sizes.min(axis=1), sizes.max(axis=1) / np.maximum(sizes.min(axis=1), 1)
    blur_limit = max(BLURRED, float(np.median(seen.blur)) + ABOVE_MEDIAN)
    kinds = (
        ("all equal", seen.range <= EVEN_RANGE, seen.range, "range {:.0f} of 255"),
        ("dark", seen.dark < DARK, seen.dark, "95 % of the pixels below {:.0f} of 255"),
        ("overexposed", seen.bright > BRIGHT, -seen.bright, "95 % of the pixels above {:.0f} of 255"),
        ("blurred", seen.blur > blur_limit, -seen.blur, "blur effect {:.2f}"),
        ("tiny", shorter < min(TINY_PX, TINY_SHARE * float(np.median(shorter))), shorter, "shorter side {:.0f} px"),
        ("long", ratio > max(LONG_RATIO, LONG_SHARE * float(np.median(ratio))), -ratio, "sides {:.1f} to 1"),
    )
    found: list[Flaw] = []
    taken = np.zeros(len(checked), bool)
    for kind, flagged, order, text in kinds:
        rows = np.flatnonzero(flagged & ~taken)
        taken[rows] = True
        rows = rows[np.argsort(order[rows], kind="stable")]
        found += [Flaw(int(row), kind, text.format(abs(float(order[row])))) for row in rows]
    return found


def class_counts(checked: CheckedImages) -> list[ClassCount]:
    """Count the labeled images of each class."""
    counts = np.bincount(checked.labels[checked.labeled], minlength=len(checked.classes))
    least = max(FEW_IMAGES, FEW_SHARE * float(counts.max(initial=0)))
    return [ClassCount(name, int(n), bool(n < least)) for name, n in zip(checked.classes, counts, strict=True)]


def stored_sizes(checked: CheckedImages) -> np.ndarray:
    """Return stored width and height of all images in pixels, (N, 2)."""
    split = checked.all
    return np.array(split.sizes if split.sizes is not None else [split.size(row) for row in range(len(split))])
