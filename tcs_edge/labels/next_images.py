"""Choose which images to label next.

With few labels, the most typical image of each large cluster without a label is chosen. Typicality is high where the
nearest neighbors are close. With more labels, the images that the linear probe is least sure about are clustered, and
the one nearest to each center is chosen, so that one request does not consist of near duplicates.

Sources: TypiClust, Hacohen et al., "Active Learning on a Budget", ICML 2022; weighted clusters of uncertain images,
Zhdanov, "Diverse mini-batch Active Learning", 2019 (arXiv 1901.05954).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import normalize

from tcs_edge.labels.nearest import nearest

Reason = Literal["typical", "uncertain"]
# Uncertainty counts from this number of labels per class on average; before, the probe is wrong too often.
LABELS_PER_CLASS = 5
NEIGHBORS = 20
PREFILTER = 10  # uncertain images per image to choose


@dataclass(frozen=True)
class NextImage:
    """One image to label.

    Attributes:
        position: row of the image.
        reason: "typical" of a cluster without a label, or "uncertain" for the probe.
        score: typicality (mean cosine of the nearest neighbors, up to 1), or uncertainty (0..1).
        cluster: number of images in its cluster.
    """

    position: int
    reason: Reason
    score: float
    cluster: int


def next_images(
    rows: np.ndarray,
    labeled: np.ndarray,
    probabilities: np.ndarray | None,
    count: int,
    seed: int = 0,
) -> list[NextImage]:
    """Choose `count` images to label, the most important first.

    Args:
        rows: features or coordinates, float (N, k).
        labeled: positions of the labeled images.
        probabilities: float (N, classes), of the probe; None or fewer than `LABELS_PER_CLASS` labels per class on
            average chooses typical images.
        count: at most the number of unlabeled images.
        seed: seed of the clusters.
    """
    free = np.setdiff1d(np.arange(len(rows)), labeled)
    if not 1 <= count <= len(free):
        raise ValueError(f"cannot choose {count} of {len(free)} images")
    if probabilities is None or len(labeled) < LABELS_PER_CLASS * probabilities.shape[1]:
        return typical_images(rows, labeled, count, seed)
    return uncertain_images(rows, free, probabilities, count, seed)


def typical_images(rows: np.ndarray, labeled: np.ndarray, count: int, seed: int = 0) -> list[NextImage]:
    """Choose the most typical image of the largest clusters without a label."""
    unit = _unit(rows)
    typicality = _typicality(unit)
    cluster_of = _clusters(unit, min(len(rows), len(labeled) + count), None, seed)[0]
    sizes = np.bincount(cluster_of)
    taken = np.zeros(len(rows), bool)
    taken[labeled] = True
    of_cluster = np.bincount(cluster_of[labeled], minlength=len(sizes))
    chosen: list[NextImage] = []
    while len(chosen) < count:
        left = np.bincount(cluster_of[~taken], minlength=len(sizes))
        # Fewest labels first, then the largest cluster, then the lowest number.
        open_clusters = np.flatnonzero(left)
        cluster = open_clusters[np.lexsort((open_clusters, -sizes[open_clusters], of_cluster[open_clusters]))[0]]
        members = np.flatnonzero((cluster_of == cluster) & ~taken)
        best = int(members[typicality[members].argmax()])
        taken[best] = True
        of_cluster[cluster] += 1
        chosen.append(NextImage(best, "typical", float(typicality[best]), int(sizes[cluster])))
    return chosen


def uncertain_images(
    rows: np.ndarray, free: np.ndarray, probabilities: np.ndarray, count: int, seed: int = 0
) -> list[NextImage]:
    """Choose one image from each of `count` clusters of the most uncertain images among `free`."""
    scores = uncertainty(probabilities)
    pool = free[np.argsort(-scores[free], kind="stable")[: PREFILTER * count]]
    unit = _unit(rows[pool])
    cluster_of, distance = _clusters(unit, count, np.maximum(scores[pool], 1e-6), seed)
    chosen = []
    for cluster in np.unique(cluster_of):
        members = np.flatnonzero(cluster_of == cluster)
        best = members[distance[members].argmin()]
        chosen.append(NextImage(int(pool[best]), "uncertain", float(scores[pool[best]]), len(members)))
    known = {one.position for one in chosen}
    rest = [int(one) for one in pool if one not in known][: count - len(chosen)]  # clusters of equal images are fewer
    chosen += [NextImage(one, "uncertain", float(scores[one]), 1) for one in rest]
    return sorted(chosen, key=lambda one: (-one.score, one.position))


def uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """Return 1 - margin, float64 (N,) in 0..1: 1 if the two most probable classes of (N, classes) are equal."""
    two = -np.partition(-probabilities.astype(np.float64), 1, axis=1)[:, :2]
    return 1 - (two[:, 0] - two[:, 1])


def _typicality(unit: np.ndarray) -> np.ndarray:
    """Return the mean cosine of the nearest neighbors, float32 (N,)."""
    if len(unit) < 2:
        return np.ones(len(unit), np.float32)
    _, cosines = nearest(torch.from_numpy(unit), min(NEIGHBORS, len(unit) - 1))
    return np.asarray(cosines.mean(dim=1).numpy())


def _clusters(unit: np.ndarray, count: int, weights: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cluster of each row by k-means, int (N,), and its squared distance to the center."""
    from sklearn.cluster import KMeans, MiniBatchKMeans  # a second to import

    make = KMeans if len(unit) <= 20_000 else MiniBatchKMeans
    count = min(count, len(np.unique(unit, axis=0)))
    fitted = make(count, n_init=1, random_state=seed).fit(unit, sample_weight=weights)
    cluster_of = np.asarray(fitted.labels_, np.int64)
    return cluster_of, np.square(unit - fitted.cluster_centers_[cluster_of]).sum(axis=1)


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(normalize(torch.from_numpy(rows.astype(np.float32)), dim=1).numpy())
