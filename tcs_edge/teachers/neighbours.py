"""Soft labels that an image's neighbours in the coordinates agree on.

A probe that was fitted on a few labelled images is least sure of images far from all of them. The
images without labels lie between: every image takes over part of what its nearest neighbours say,
and passes it on (Zhou et al., "Learning with Local and Global Consistency", NIPS 2003, section 2, on
a graph of nearest neighbours). How much is settled by labels that were held out, and may be nothing:
where the teacher's neighbourhoods mix the classes, the probe alone is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from tcs_edge.teachers.probe import LinearProbe, fit_linear_probe

NEIGHBOURS = 10
ROUNDS = 30
SHARES = (0.0, 0.5, 0.8)
# With one label per class there is nothing to hold out.
UNTRIED_SHARE = 0.8
FOLDS = 5
# Every image is compared with every other: beyond this it takes minutes.
MAX_IMAGES = 50_000
_SIMILARITIES_AT_ONCE = 16_000_000
_SMALLEST = 1e-4  # probability; its logarithm stays within what float16 and a temperature bear


@dataclass(frozen=True)
class Graph:
    """The nearest neighbours of every image by cosine.

    Attributes:
        neighbours: int64 (N, n).
        weights: float32 (N, n), each row sums to 1; cubed cosines, 0 where the cosine is negative.
    """

    neighbours: Tensor
    weights: Tensor

    def average(self, rows: Tensor) -> Tensor:
        """What the neighbours of each image say on average, (N, c) of rows (N, c)."""
        total = torch.zeros_like(rows)
        for neighbour, weight in zip(self.neighbours.T, self.weights.T, strict=True):
            total.addcmul_(rows[neighbour], weight[:, None])
        return total


@dataclass(frozen=True)
class SoftLabels:
    """What stands in for the labels of images.

    Attributes:
        logits: float32 (N, classes).
        share: of an image's soft label that comes from its neighbours; 0 is the probe alone.
    """

    logits: Tensor
    share: float


def neighbour_graph(coordinates: Tensor, count: int = NEIGHBOURS) -> Graph:
    """The `count` nearest neighbours, fewer where there are fewer images, of coordinates (N, k)."""
    rows = normalize(coordinates.float(), dim=1)
    count = min(count, len(rows) - 1)
    found, similar = [], []
    for start in range(0, len(rows), chunk := max(1, _SIMILARITIES_AT_ONCE // len(rows))):
        part = rows[start : start + chunk] @ rows.T
        part[torch.arange(len(part)), torch.arange(start, start + len(part))] = -torch.inf
        values, indices = part.topk(count, dim=1)
        found.append(indices)
        similar.append(values)
    weights = torch.cat(similar).clamp_min(0) ** 3
    return Graph(torch.cat(found), weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12))


def smoothed(graph: Graph, probabilities: Tensor, share: float) -> Tensor:
    """Probabilities (N, classes) after `ROUNDS` of F <- share x neighbours' F + (1 - share) x probabilities."""
    smooth = probabilities
    for _ in range(ROUNDS if share else 0):
        smooth = share * graph.average(smooth) + (1 - share) * probabilities
    return smooth / smooth.sum(dim=1, keepdim=True)


def soft_labels(coordinates: Tensor, labels: np.ndarray, labelled: np.ndarray, probe: LinearProbe) -> SoftLabels:
    """What `probe` and the neighbours say of every image.

    Args:
        coordinates: (N, k); labels: int (N,), read only at the rows `labelled`.
        probe: fitted on these rows.
    """
    graph = neighbour_graph(coordinates)
    share = _best_share(graph, coordinates, labels, labelled, len(probe.bias))
    said = _said(probe, coordinates, labels, labelled)
    logits = smoothed(graph, said, share).clamp_min(_SMALLEST).log()
    return SoftLabels(_as_sure_as(said, logits) if share else logits, share)


def _as_sure_as(said: Tensor, logits: Tensor) -> Tensor:
    """`logits` times the factor that makes their largest probability, on average, as large as that of `said`.

    Averaging leaves every image with a little of many classes; a temperature would then drown the answer.
    """
    wanted = said.amax(dim=1).mean()
    low, high = 1.0, 16.0
    for _ in range(20):
        factor = (low + high) / 2
        low, high = (factor, high) if (factor * logits).softmax(dim=1).amax(dim=1).mean() < wanted else (low, factor)
    return factor * logits


def _best_share(graph: Graph, coordinates: Tensor, labels: np.ndarray, labelled: np.ndarray, classes: int) -> float:
    """The share by which most labels are found again that were held out; the smaller one where shares tie."""
    folds = min(FOLDS, int(np.bincount(labels[labelled], minlength=classes).min()))
    if folds < 2:
        return UNTRIED_SHARE
    fold_of = _folds(labels[labelled], folds)
    right = np.zeros(len(SHARES))
    for fold in range(folds):
        known, held_out = labelled[fold_of != fold], labelled[fold_of == fold]
        probe = fit_linear_probe(coordinates[known].numpy(), labels[known], classes)
        said = _said(probe, coordinates, labels, known)
        guesses = [smoothed(graph, said, share)[held_out].argmax(dim=1).numpy() for share in SHARES]
        right += [(guess == labels[held_out]).sum() for guess in guesses]
    return SHARES[int(right.argmax())]


def _folds(labels: np.ndarray, folds: int) -> np.ndarray:
    """(n,) a fold for each label, so that every class is spread over all folds."""
    order = np.argsort(labels, kind="stable")
    fold_of = np.empty(len(labels), np.int64)
    fold_of[order] = np.arange(len(labels)) % folds
    return fold_of


def _said(probe: LinearProbe, coordinates: Tensor, labels: np.ndarray, known: np.ndarray) -> Tensor:
    """Probabilities (N, classes): the label where it is known, what the probe says elsewhere."""
    said = torch.from_numpy(probe.logits(coordinates.numpy())).softmax(dim=1)
    said[known] = one_hot(torch.from_numpy(labels[known]).long(), said.shape[1]).float()
    return said
