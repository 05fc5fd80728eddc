"""`tcs-edge check`: read the images, compare them, and collect all findings."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch

from tcs_edge.check.copies import CopyPair, find_copies, find_leaks
from tcs_edge.check.features import KnownFeatures, features_for
from tcs_edge.check.images import CheckedImages
from tcs_edge.check.labels import (
    AlikePair,
    Doubt,
    center_of,
    centered,
    fence_of,
    find_alike,
    find_doubts,
    heldout_probabilities,
    neighbor_distance,
)
from tcs_edge.check.quality import ClassCount, Flaw, class_counts, find_flaws, stored_sizes
from tcs_edge.check.thumbnails import thumbnails_of
from tcs_edge.data import load_images
from tcs_edge.data.images import Skipped
from tcs_edge.data.unlabeled import with_unlabeled
from tcs_edge.specs.config import ImagesConfig

logger = logging.getLogger(__name__)

MOST_PAIRS = 10**10  # of unlabeled and labeled images; the comparison takes about ten minutes of a core


@dataclass(frozen=True)
class Distant:
    """An image far from all labeled images; `distance` is 1 - mean cosine to the nearest ones."""

    row: int
    distance: float


@dataclass(frozen=True)
class Findings:
    """Findings about images.

    Attributes:
        skipped: images that cannot be read.
        teacher: network of the features; None without features, so that the last four lists are empty.
        with_features: number of images with features.
        unfamiliar: unlabeled images unlike anything labeled.
    """

    checked: CheckedImages
    skipped: tuple[Skipped, ...]
    copies: tuple[CopyPair, ...]
    flaws: tuple[Flaw, ...]
    classes: tuple[ClassCount, ...]
    teacher: str | None
    with_features: int
    doubts: tuple[Doubt, ...] = ()
    alike: tuple[AlikePair, ...] = ()
    outliers: tuple[Distant, ...] = ()
    unfamiliar: tuple[Distant, ...] = ()

    @property
    def leaks(self) -> tuple[CopyPair, ...]:
        """Copies in train and test."""
        return tuple(find_leaks(self.checked, self.copies))


def check_images(options: ImagesConfig, device: torch.device) -> Findings:
    """Check the images of `options`.

    Raises:
        DataError, UsageError, MissingError: as `load_images`, `with_unlabeled` and `run_features`.
    """
    exclude, cache_dir = options.exclude or (), options.cache_dir
    images = load_images(options.data, options.seed, exclude, cache_dir, options.column or ())
    if options.unlabeled:
        images = with_unlabeled(images, options.unlabeled, exclude, cache_dir)
    checked = CheckedImages.of(images)
    seen = thumbnails_of(checked.all, cache_dir)
    found = features_for(checked, options, device)
    complete = found.rows if found is not None and found.known.all() else None
    copies = find_copies(checked, seen.gray, complete, stored_sizes(checked).min(axis=1))
    known: dict[str, tuple] = {} if found is None else _by_features(checked, found)  # type: ignore[type-arg]
    return Findings(
        checked, images.skipped, tuple(copies), tuple(find_flaws(checked, seen)), tuple(class_counts(checked)),
        None if found is None else found.teacher, 0 if found is None else int(found.known.sum()), **known,
    )  # fmt: skip


def _by_features(checked: CheckedImages, found: KnownFeatures) -> dict[str, tuple]:  # type: ignore[type-arg]
    rows = np.flatnonzero((checked.labels >= 0) & found.known)
    features, labels = found.rows[rows], checked.labels[rows]
    probabilities = heldout_probabilities(features, labels, len(checked.classes))
    right = float((probabilities.argmax(axis=1) == labels).mean())
    logger.info(f"probe on {found.teacher}: held-out accuracy {100 * right:.1f} %")
    doubts, alike = find_doubts(probabilities, labels, rows), find_alike(probabilities, labels)
    if len(rows) < 2:
        return {"doubts": tuple(doubts), "alike": tuple(alike)}
    center = center_of(features)
    labeled = centered(features, center)
    own = neighbor_distance(labeled)
    fence = fence_of(own)
    unlabeled = np.flatnonzero((checked.labels < 0) & found.known)
    if len(unlabeled) * len(rows) > MOST_PAIRS:
        logger.warning(
            f"unlabeled images unlike any label: left out, as {len(unlabeled):,} times {len(rows):,} images are "
            f"more than {MOST_PAIRS:.0e} pairs"
        )
        unlabeled = unlabeled[:0]
    others = neighbor_distance(centered(found.rows[unlabeled], center), labeled)
    return {
        "doubts": tuple(doubts), "alike": tuple(alike),
        "outliers": _beyond(rows, own, fence), "unfamiliar": _beyond(unlabeled, others, fence),
    }  # fmt: skip


def _beyond(rows: np.ndarray, distances: np.ndarray, fence: float) -> tuple[Distant, ...]:
    far = np.flatnonzero(distances > fence)
    return tuple(
        Distant(int(rows[at]), round(float(distances[at]), 4)) for at in far[np.argsort(-distances[far], kind="stable")]
    )
