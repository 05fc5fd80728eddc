"""Soft labels from linear probes with label propagation, weighted by held-out accuracy.

A source describes all images by one vector each: the teacher's coordinates, or the features of a student with
pretrained weights. A linear probe is fitted on the labeled images of each source. Label propagation spreads its
probabilities over all images, and the probe is fitted again on the result. So the unlabeled images shape the soft
labels, which one linear layer can still reproduce.

Held-out labels determine the propagation share of each source and the weight of each source. Sources that err on
different images are more accurate together than alone. A source of low accuracy gets a low weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tcs_edge.labels.linear_probe import ROWS_AT_ONCE, LinearProbe, fit_linear_probe
from tcs_edge.labels.propagation import Graph, neighbor_graph, smoothed

# Propagation shares to try. The first wins a tie, which is common with few labels; 0.5 was then the best choice.
SHARES = (0.5, 0.8, 0.0)
# Propagation share with one label per class, where no label can be held out. Such a class is never held out.
UNTRIED_SHARE = 0.8
FOLDS = 5
# Shares of the soft label in the loss of a labeled image.
MOST_SOFT = 0.9  # with few labels, or with a teacher that knows much more than the student
EVEN = 0.5  # with all labels and a student without features of its own
FULL_ADVANTAGE = 0.15  # of the teacher in held-out accuracy, for `MOST_SOFT` with all labels
_SMALLEST = 1e-4  # lower bound of probabilities in logarithms


@dataclass(frozen=True)
class SoftLabels:
    """Soft labels of images.

    Attributes:
        logits: float32 (N, classes), weighted average of the sources' logits.
        probe: linear probe of the first source.
        weights: weight of each source's logits; they sum to 1.
        shares: propagation share of each source in [0, 1]; 0 fits its probe on the labels alone.
        heldout_accuracy: accuracy of each source on held-out labels, 0..1, averaged over the classes; empty without
            held-out labels.
    """

    logits: Tensor
    probe: LinearProbe
    weights: Mapping[str, float]
    shares: Mapping[str, float]
    heldout_accuracy: Mapping[str, float]


def soft_labels(
    sources: Mapping[str, Tensor],
    labels: np.ndarray,
    labeled: np.ndarray,
    classes: int,
    neighbors: bool = True,
) -> SoftLabels:
    """Compute soft labels, with the propagation share of each source that has the best held-out accuracy.

    Args:
        sources: rows (N, k) for the same images, by name of the source.
        labels: int (N,), read only at the rows `labeled`.
        labeled: positions of the labeled images.
        neighbors: True uses label propagation.
    """
    graphs = {name: neighbor_graph(rows) if neighbors else None for name, rows in sources.items()}
    tried = _heldout_accuracy_by_share(sources, graphs, SHARES if neighbors else (0.0,), labels, labeled, classes)
    untried = UNTRIED_SHARE if neighbors else 0.0
    shares = {name: _best_share(tried[name]) if tried else untried for name in sources}
    heldout_accuracy = {name: tried[name][shares[name]] for name in tried}
    held_out = int((np.bincount(labels[labeled]) > 1).sum())
    weights = _weights(heldout_accuracy, held_out) if heldout_accuracy else dict.fromkeys(sources, 1 / len(sources))
    probes = {
        name: _fitted_with_propagation(
            graphs[name], shares[name], labeled_probe(rows, labels, labeled, classes), rows, labels, labeled
        )
        for name, rows in sources.items()
    }
    logits = sum(weights[name] * torch.from_numpy(probes[name].logits(rows.numpy())) for name, rows in sources.items())
    return SoftLabels(logits, probes[next(iter(sources))], weights, shares, heldout_accuracy)


def soft_share(labeled_fraction: float, teacher: float | None = None, student: float | None = None) -> float:
    """Return the share of the soft label in the loss of a labeled image, in 0..`MOST_SOFT`; its label has the rest.

    With few labels it is `MOST_SOFT`: the labels alone would be learned by heart. With all labels, a pretrained
    student gets soft labels as far as the teacher knows more than the student's own features do, else it would learn
    the teacher's mistakes. Between the two it is linear in `labeled_fraction`
    (docs/explanation/decisions/0017-soft-share.md).

    Args:
        labeled_fraction: labeled training images among all, in (0, 1].
        teacher, student: accuracy of each probe on held-out labels, 0..1; None if unknown.
    """
    with_all = EVEN
    if teacher is not None and student is not None:
        with_all = MOST_SOFT * min(1.0, max(0.0, (teacher - student) / FULL_ADVANTAGE))
    return MOST_SOFT * (1 - labeled_fraction) + with_all * labeled_fraction


def _heldout_accuracy_by_share(
    sources: Mapping[str, Tensor],
    graphs: Mapping[str, Graph | None],
    shares: tuple[float, ...],
    labels: np.ndarray,
    labeled: np.ndarray,
    classes: int,
) -> dict[str, dict[float, float]]:
    """Measure the held-out accuracy by source and propagation share, averaged over the classes.

    The result is empty if no label can be held out, or if there is nothing to choose.
    """
    fold_of = _folds(labels[labeled])
    if fold_of.max() < 1 or len(sources) * len(shares) < 2:
        return {}
    right = {name: {share: np.zeros(len(labeled), bool) for share in shares} for name in sources}
    for fold in range(fold_of.max() + 1):
        known, held_out = labeled[fold_of != fold], labeled[fold_of == fold]
        for name, rows in sources.items():
            alone = labeled_probe(rows, labels, known, classes)
            for share in shares:
                probe = _fitted_with_propagation(graphs[name], share, alone, rows, labels, known)
                predicted = probe.logits(rows[held_out].numpy()).argmax(axis=1)
                right[name][share][fold_of == fold] = predicted == labels[held_out]
    held = fold_of >= 0
    return {
        name: {share: _mean_recall(each[held], labels[labeled][held]) for share, each in by_share.items()}
        for name, by_share in right.items()
    }


def _mean_recall(right: np.ndarray, labels: np.ndarray) -> float:
    """Mean of `right`, bool (n,), per class of `labels` (n,), averaged; a constant prediction gives 1 / classes."""
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return round(float(np.mean(recalls)), 9)  # rounded, so that equal accuracies compare equal


def _best_share(found: Mapping[float, float]) -> float:
    """Return the share with the best held-out accuracy, the first one in a tie."""
    return max(found, key=lambda share: found[share])


def _weights(heldout_accuracy: Mapping[str, float], classes: int) -> dict[str, float]:
    """Compute the weight of each source: proportional to (held-out accuracy - chance)^2, and 0 below chance.

    Chance accuracy is 1 / `classes`, the number of classes with held-out labels. Weights are equal if no source is
    above chance.

    The weighted average of logits is a logarithmic opinion pool (Genest, Zidek 1986). The square favors the more
    accurate source more than log-odds would (docs/explanation/decisions/0013-soft-label-sources.md).
    """
    squares = {name: max(0.0, part - 1 / classes) ** 2 for name, part in heldout_accuracy.items()}
    total = sum(squares.values())
    return {name: square / total if total else 1 / len(squares) for name, square in squares.items()}


def _fitted_with_propagation(
    graph: Graph | None, share: float, probe: LinearProbe, rows: Tensor, labels: np.ndarray, known: np.ndarray
) -> LinearProbe:
    """Fit `probe` again on all images, to its probabilities and the labels at `known` after propagation."""
    if graph is None or not share:
        return probe
    target = _probabilities(probe, rows, labels, known)
    spread = _sharpened(target, smoothed(graph, target, share))
    return fit_linear_probe(rows.numpy(), spread.numpy())


def _sharpened(target: Tensor, spread: Tensor) -> Tensor:
    """Sharpen the probabilities `spread` until their largest is on average as large as in `target`.

    The sharpening is a power, followed by normalization. Without it, propagation leaves every image with small
    probabilities for many classes, and a temperature in the loss would make them almost uniform.
    """
    wanted, logits = target.amax(dim=1).mean(), spread.clamp_min(_SMALLEST).log()
    low, high = 1.0, 16.0
    for _ in range(20):
        factor = (low + high) / 2
        largest = torch.cat([(factor * part).softmax(dim=1).amax(dim=1) for part in logits.split(ROWS_AT_ONCE)])
        low, high = (factor, high) if largest.mean() < wanted else (low, factor)
    return (factor * logits).softmax(dim=1)


def labeled_probe(rows: Tensor, labels: np.ndarray, labeled: np.ndarray, classes: int) -> LinearProbe:
    """Fit a linear probe of rows (N, k) on the labels (N,) at the positions `labeled`."""
    return fit_linear_probe(rows[labeled].numpy(), labels[labeled], classes)


def _folds(labels: np.ndarray) -> np.ndarray:
    """Assign each label to a fold, (n,), with every class in every fold; -1 for a class with one label.

    The number of folds is the size of the smallest other class, at most `FOLDS`.
    """
    counts = np.bincount(labels)
    several = np.flatnonzero(counts[labels] > 1)
    fold_of = np.full(len(labels), -1)
    if len(several):
        folds = min(FOLDS, int(counts[counts > 1].min()))
        fold_of[several[np.argsort(labels[several], kind="stable")]] = np.arange(len(several)) % folds
    return fold_of


def _probabilities(probe: LinearProbe, rows: Tensor, labels: np.ndarray, known: np.ndarray) -> Tensor:
    """Return probabilities (N, classes): one-hot at the `known` labels, from the probe elsewhere."""
    found = torch.from_numpy(probe.logits(rows.numpy())).softmax(dim=1)
    found[known] = one_hot(torch.from_numpy(labels[known]).long(), found.shape[1]).float()
    return found
