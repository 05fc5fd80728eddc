"""What stands in for labels: the answers of linear probes that heard the neighbors, weighted by what they know.

Images may be described by the teacher's coordinates, and by the features of a student that starts from
given weights. In each description a probe on few labels is fitted once more on what neighbors make of them, so
that the images without labels shape it, and its answers stay what one linear layer there can say. How much
neighbors have a say is settled by labels that are held out, and so is how much each description has: two that err
on different images are together more often right than either, and one that knows less would be a bad example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tcs_edge.labels.linear_probe import LinearProbe, fit_linear_probe
from tcs_edge.labels.propagation import Graph, neighbor_graph, smoothed

# The first wins a tie: few labels often cannot tell these apart, and half from the neighbors was then the best guess.
SHARES = (0.5, 0.8, 0.0)
# With one label per class there is nothing to hold out. A class that has only one never is.
UNTRIED_SHARE = 0.8
FOLDS = 5
_SMALLEST = 1e-4  # probability whose logarithm still counts


@dataclass(frozen=True)
class SoftLabels:
    """What stands in for the labels of images.

    Attributes:
        logits: float32 (N, classes), the sources' answers, averaged by their weights.
        probe: linear classifier of the first source's rows.
        weights: of each source's logits; they sum to 1.
        shares: by source, how much of the probabilities that its probe was fitted on came from neighbors; 0 is the
            labels alone.
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
    """The weighted answers of the sources, each with the neighbors' share by which it finds most labels again.

    Args:
        sources: descriptions (N, k) of the same images.
        labels: int (N,), read only at the rows `labeled`.
        neighbors: whether they may have a say.
    """
    graphs = {name: neighbor_graph(rows) if neighbors else None for name, rows in sources.items()}
    tried = _tried(sources, graphs, SHARES if neighbors else (0.0,), labels, labeled, classes)
    untried = UNTRIED_SHARE if neighbors else 0.0
    shares = {name: _best_share(tried[name]) if tried else untried for name in sources}
    heldout_accuracy = {name: tried[name][shares[name]] for name in tried}
    held_out = int((np.bincount(labels[labeled]) > 1).sum())
    weights = _weights(heldout_accuracy, held_out) if heldout_accuracy else dict.fromkeys(sources, 1 / len(sources))
    probes = {
        name: _having_heard(
            graphs[name], shares[name], labeled_probe(rows, labels, labeled, classes), rows, labels, labeled
        )
        for name, rows in sources.items()
    }
    logits = sum(weights[name] * torch.from_numpy(probes[name].logits(rows.numpy())) for name, rows in sources.items())
    return SoftLabels(logits, probes[next(iter(sources))], weights, shares, heldout_accuracy)


def _tried(
    sources: Mapping[str, Tensor],
    graphs: Mapping[str, Graph | None],
    shares: tuple[float, ...],
    labels: np.ndarray,
    labeled: np.ndarray,
    classes: int,
) -> dict[str, dict[float, float]]:
    """By source and share: part of the held-out labels found again, each class counting alike; empty where nothing
    can or need be held out."""
    fold_of = _folds(labels[labeled])
    if fold_of.max() < 1 or len(sources) * len(shares) < 2:
        return {}
    right = {name: {share: np.zeros(len(labeled), bool) for share in shares} for name in sources}
    for fold in range(fold_of.max() + 1):
        known, held_out = labeled[fold_of != fold], labeled[fold_of == fold]
        for name, rows in sources.items():
            alone = labeled_probe(rows, labels, known, classes)
            for share in shares:
                probe = _having_heard(graphs[name], share, alone, rows, labels, known)
                said = probe.logits(rows[held_out].numpy()).argmax(axis=1)
                right[name][share][fold_of == fold] = said == labels[held_out]
    held = fold_of >= 0
    return {
        name: {share: _mean_recall(each[held], labels[labeled][held]) for share, each in by_share.items()}
        for name, by_share in right.items()
    }


def _mean_recall(right: np.ndarray, labels: np.ndarray) -> float:
    """Part of `right`, bool (n,), by class of `labels` (n,), averaged; always saying one class gives 1 / classes."""
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return round(float(np.mean(recalls)), 9)  # so that ties are ties


def _best_share(found: Mapping[float, float]) -> float:
    """The first of those by which most labels are found again."""
    return max(found, key=lambda share: found[share])


def _weights(heldout_accuracy: Mapping[str, float], classes: int) -> dict[str, float]:
    """By source, from the part of the labels that it finds again: as the square of what that is beyond guessing.

    `classes` are those that were held out: who guesses among them finds one part in so many.

    Logits that are averaged so are a logarithmic opinion pool (Genest, Zidek 1986). The square leans further to the
    one that knows more than log-odds would (docs/explanation/decisions/0013).
    """
    squares = {name: max(0.0, part - 1 / classes) ** 2 for name, part in heldout_accuracy.items()}
    total = sum(squares.values())
    return {name: square / total if total else 1 / len(squares) for name, square in squares.items()}


def _having_heard(
    graph: Graph | None, share: float, probe: LinearProbe, rows: Tensor, labels: np.ndarray, known: np.ndarray
) -> LinearProbe:
    """`probe` fitted again, on all images: on the `known` labels and what `probe` says elsewhere, spread by `share`."""
    if graph is None or not share:
        return probe
    said = _said(probe, rows, labels, known)
    spread = _as_sure_as(said, smoothed(graph, said, share))
    return fit_linear_probe(rows.numpy(), spread.numpy())


def _as_sure_as(said: Tensor, spread: Tensor) -> Tensor:
    """Probabilities `spread` to the power, renormalized, by which the largest is on average as large as in `said`.

    Averaging leaves every image with a little of many classes; a temperature would then drown the answer.
    """
    wanted, logits = said.amax(dim=1).mean(), spread.clamp_min(_SMALLEST).log()
    low, high = 1.0, 16.0
    for _ in range(20):
        factor = (low + high) / 2
        low, high = (factor, high) if (factor * logits).softmax(dim=1).amax(dim=1).mean() < wanted else (low, factor)
    return (factor * logits).softmax(dim=1)


def labeled_probe(rows: Tensor, labels: np.ndarray, labeled: np.ndarray, classes: int) -> LinearProbe:
    """The linear probe of rows (N, k) that is fitted on the labels (N,) at the rows `labeled`."""
    return fit_linear_probe(rows[labeled].numpy(), labels[labeled], classes)


def _folds(labels: np.ndarray) -> np.ndarray:
    """(n,) a fold for each label, so that every class is spread over all of them; -1 in a class of one label.

    As many as the smallest other class has labels, at most `FOLDS`.
    """
    counts = np.bincount(labels)
    several = np.flatnonzero(counts[labels] > 1)
    fold_of = np.full(len(labels), -1)
    if len(several):
        folds = min(FOLDS, int(counts[counts > 1].min()))
        fold_of[several[np.argsort(labels[several], kind="stable")]] = np.arange(len(several)) % folds
    return fold_of


def _said(probe: LinearProbe, rows: Tensor, labels: np.ndarray, known: np.ndarray) -> Tensor:
    """Probabilities (N, classes): the label where it is known, what the probe says elsewhere."""
    said = torch.from_numpy(probe.logits(rows.numpy())).softmax(dim=1)
    said[known] = one_hot(torch.from_numpy(labels[known]).long(), said.shape[1]).float()
    return said
