"""Findings by features of a teacher: doubtful labels, classes that are alike, outliers, unfamiliar unlabeled images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold

from tcs_edge.labels.linear_probe import fit_linear_probe
from tcs_edge.labels.nearest import exact_nearest, nearest

FOLDS = 5
PROBE_L2 = 3e-2  # more than for soft labels: a probe must not learn the wrong labels by heart
VOTERS = 10  # neighbors that vote for the class of an image
PRIOR = 0.05  # added to the share of every class
NEIGHBORS = 5
ALIKE = 0.1  # mean probability of one class for images of the other
FENCE = 3.0  # interquartile ranges above the third quartile (Tukey's far out)
_SMALLEST = 1e-6  # added to probabilities in logarithms


@dataclass(frozen=True)
class Doubt:
    """A label that a cross-validated probe doubts.

    Attributes:
        row: position of the image.
        suggested: the most probable class.
        margin: probability of that class minus the probability of the label, 0..1.
    """

    row: int
    suggested: int
    margin: float


@dataclass(frozen=True)
class AlikePair:
    """Two classes whose images a probe mixes up; `probability` is that of one class for images of the other."""

    first: int
    second: int
    probability: float


def heldout_probabilities(features: np.ndarray, labels: np.ndarray, classes: int, seed: int = 0) -> np.ndarray:
    """Predict each image without its own label: the mean of a linear probe and of its neighbors; float32 (N, classes).

    The probe is fitted on the other folds. Probes overlook wrong labels of some teachers and neighbors those of others,
    so both vote. Rows of a class with one image are NaN: no probe can be fitted without it.

    Args:
        features: (N, d).
        labels: int (N,) in 0..classes-1.
    """
    counts = np.bincount(labels, minlength=classes)
    rows = np.flatnonzero(counts[labels] > 1)
    found = np.full((len(labels), classes), np.nan, np.float32)
    if not len(rows):
        return found
    folds = int(min(FOLDS, counts[counts > 1].min()))
    for kept, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, labels[rows]):
        probe = fit_linear_probe(features[rows[kept]], labels[rows[kept]], classes, PROBE_L2)
        logits = probe.logits(features[rows[held]])
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        found[rows[held]] = shares / shares.sum(axis=1, keepdims=True)
    found[rows] = (found[rows] + _by_neighbors(features[rows], labels[rows], classes)) / 2
    return found


def _by_neighbors(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the shares of the classes among the nearest other images, weighted by cubed cosines, (N, classes)."""
    rows = torch.from_numpy(centered(features, center_of(features)))
    voters, cosine = (part.numpy() for part in nearest(rows, min(VOTERS, len(rows) - 1)))
    found = np.zeros((len(rows), classes), np.float32)
    np.add.at(found, (np.arange(len(rows))[:, None], labels[voters]), cosine.clip(0) ** 3)
    found += PRIOR * found.sum() / found.size
    shares: np.ndarray = found / found.sum(axis=1, keepdims=True).clip(1e-12)
    return shares


def doubt_scores(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the log odds of the most probable other class against the label, float32 (N,); NaN where unknown."""
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    odds: np.ndarray = np.log((others.max(axis=1) + _SMALLEST) / (own + _SMALLEST))
    return odds


def find_doubts(probabilities: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> list[Doubt]:
    """Find labels that the probe doubts, the clearest first.

    A label is doubted if another class is more probable, and at least as probable as for images of that class on
    average ("Confident Learning", Northcutt et al., JAIR 2021).

    Args:
        rows: position of each image among all.
    """
    usual = np.array([
        np.nanmean(probabilities[labels == label, label]) if np.isfinite(probabilities[labels == label, label]).any()
        else np.inf
        for label in range(probabilities.shape[1])
    ])  # fmt: skip
    known = np.isfinite(probabilities).all(axis=1)
    suggested = np.where(known, np.nan_to_num(probabilities).argmax(axis=1), labels)
    top = np.nan_to_num(probabilities)[np.arange(len(labels)), suggested]
    score = np.nan_to_num(doubt_scores(probabilities, labels), nan=-np.inf)
    doubted = np.flatnonzero(known & (suggested != labels) & (top >= usual[suggested]))
    order = doubted[np.argsort(-score[doubted], kind="stable")]
    margin = top - np.nan_to_num(probabilities)[np.arange(len(labels)), labels]
    return [Doubt(int(rows[at]), int(suggested[at]), round(float(margin[at]), 4)) for at in order]


def find_alike(probabilities: np.ndarray, labels: np.ndarray) -> list[AlikePair]:
    """Find pairs of classes that the probe mixes up, the most alike first."""
    classes = probabilities.shape[1]
    known = np.isfinite(probabilities).all(axis=1)
    mean = np.zeros((classes, classes))
    for label in np.unique(labels[known]):
        mean[label] = probabilities[known & (labels == label)].mean(axis=0)
    both = np.triu((mean + mean.T) / 2, 1)
    first, second = np.nonzero(both >= ALIKE)
    pairs = [
        AlikePair(int(a), int(b), round(float(both[a, b]), 4)) for a, b in zip(first, second, strict=True)
    ]  # fmt: skip
    return sorted(pairs, key=lambda pair: -pair.probability)


def center_of(features: np.ndarray) -> np.ndarray:
    """Return the mean of features (N, d) in their type."""
    mean: np.ndarray = features.mean(axis=0, dtype=np.float32).astype(features.dtype)
    return mean


def centered(features: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return features (N, d) minus their center, in their type."""
    rows: np.ndarray = features - center
    return rows


def neighbor_distance(features: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Return 1 minus the mean cosine of each image to its nearest images, float32 (N,).

    Args:
        features: (N, d), centered by the caller.
        among: images (M, d) to search, all of them; None searches the others of `features`, as `labels.nearest` does.
    """
    if not len(features):
        return np.empty(0, np.float32)
    most = min(NEIGHBORS, len(features) - 1 if among is None else len(among))
    rows = torch.from_numpy(features)
    _, cosine = nearest(rows, most) if among is None else exact_nearest(rows, most, torch.from_numpy(among))
    return np.asarray(1 - cosine.mean(dim=1).numpy())


def fence_of(distances: np.ndarray) -> float:
    """Return the distance above which an image is far from all others."""
    low, high = np.percentile(distances, [25, 75])
    return float(high + FENCE * (high - low))
