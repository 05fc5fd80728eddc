"""What stands in for labels: the answers of a linear probe that heard the neighbours, from whoever knows most.

Images may be described by the teacher's coordinates, and by the features of a student that starts from
given weights. A probe on few labels is fitted once more on what neighbours make of them, so that the images
without labels shape it, and its answers stay what one linear layer in the coordinates can say. Which
description answers, and how much neighbours have a say, is settled by labels that are held out: a teacher
that knows less than the student already does, or whose neighbourhoods mix the classes, would be a bad example.
Between two that know as much, the teacher teaches more: what the student says of itself is no news to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tcs_edge.teachers.neighbours import Graph, neighbour_graph, smoothed
from tcs_edge.teachers.probe import LinearProbe, fit_linear_probe

# The first wins a tie: few labels often cannot tell these apart, and half from the neighbours was then the best guess.
SHARES = (0.5, 0.8, 0.0)
# With one label per class there is nothing to hold out.
UNTRIED_SHARE = 0.8
FOLDS = 5
_SMALLEST = 1e-4  # probability whose logarithm still counts


@dataclass(frozen=True)
class SoftLabels:
    """What stands in for the labels of images.

    Attributes:
        logits: float32 (N, classes), what `probe` says.
        probe: linear classifier of the source's rows.
        source: whose description of the images they were read from.
        share: how much of the probabilities that the probe was fitted on came from neighbours; 0 is the labels alone.
        found_again: part of the held-out labels that each source found again, 0..1; empty where none were held out.
    """

    logits: Tensor
    probe: LinearProbe
    source: str
    share: float
    found_again: Mapping[str, float]


def soft_labels(
    sources: Mapping[str, Tensor],
    labels: np.ndarray,
    labelled: np.ndarray,
    classes: int,
    neighbours: bool = True,
    probe: LinearProbe | None = None,
) -> SoftLabels:
    """The answers of one source, with the neighbours' share by which it finds most held-out labels again.

    Args:
        sources: descriptions (N, k) of the same images; the first answers unless another finds more labels again by
            more than one standard error, and where nothing can be held out.
        labels: int (N,), read only at the rows `labelled`.
        neighbours: whether they may have a say.
        probe: the first source's, where it is fitted on the labelled rows already.
    """
    graphs = {name: neighbour_graph(rows) if neighbours else None for name, rows in sources.items()}
    shares = SHARES if neighbours else (0.0,)
    tried = _tried(sources, graphs, shares, labels, labelled, classes)
    first = next(iter(sources))
    best = {name: _best_share(by_share) for name, by_share in tried.items()}
    found = {name: tried[name][share] for name, share in best.items()}
    source = _whose(found) if found else first
    share = best.get(source, UNTRIED_SHARE if neighbours else 0.0)
    rows = sources[source]
    if probe is None or source != first:
        probe = fit_linear_probe(rows[labelled].numpy(), labels[labelled], classes)
    probe = _having_heard(graphs[source], share, probe, rows, labels, labelled)
    found_again = {name: float(each.mean()) for name, each in found.items()}
    return SoftLabels(torch.from_numpy(probe.logits(rows.numpy())), probe, source, share, found_again)


def possible_folds(labels: np.ndarray, classes: int) -> int:
    """How many folds `labels` (n,) can be held out in, each class in every one; below 2 nothing can."""
    return min(FOLDS, int(np.bincount(labels, minlength=classes).min()))


def _tried(
    sources: Mapping[str, Tensor],
    graphs: Mapping[str, Graph | None],
    shares: tuple[float, ...],
    labels: np.ndarray,
    labelled: np.ndarray,
    classes: int,
) -> dict[str, dict[float, np.ndarray]]:
    """By source and share, bool (n,): which held-out labels are found again; empty where nothing can or need be."""
    folds = possible_folds(labels[labelled], classes)
    if folds < 2 or len(sources) * len(shares) < 2:
        return {}
    fold_of = _folds(labels[labelled], folds)
    right = {name: {share: np.zeros(len(labelled), bool) for share in shares} for name in sources}
    for fold in range(folds):
        known, held_out = labelled[fold_of != fold], labelled[fold_of == fold]
        for name, rows in sources.items():
            alone = fit_linear_probe(rows[known].numpy(), labels[known], classes)
            for share in shares:
                probe = _having_heard(graphs[name], share, alone, rows, labels, known)
                said = probe.logits(rows[held_out].numpy()).argmax(axis=1)
                right[name][share][fold_of == fold] = said == labels[held_out]
    return right


def _best_share(found: Mapping[float, np.ndarray]) -> float:
    """The first of those by which most labels are found again."""
    return max(found, key=lambda share: int(found[share].sum()))


def _whose(found: Mapping[str, np.ndarray]) -> str:
    """The first source, or another that finds more labels again, bool (n,), by more than one standard error."""
    first, *others = found
    if not others:
        return first
    best = max(others, key=lambda name: int(found[name].sum()))
    won, lost = int((found[best] & ~found[first]).sum()), int((found[first] & ~found[best]).sum())
    return best if won - lost > sqrt(won + lost) else first


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
    """Probabilities `spread` to the power, renormalised, by which the largest is on average as large as in `said`.

    Averaging leaves every image with a little of many classes; a temperature would then drown the answer.
    """
    wanted, logits = said.amax(dim=1).mean(), spread.clamp_min(_SMALLEST).log()
    low, high = 1.0, 16.0
    for _ in range(20):
        factor = (low + high) / 2
        low, high = (factor, high) if (factor * logits).softmax(dim=1).amax(dim=1).mean() < wanted else (low, factor)
    return (factor * logits).softmax(dim=1)


def _folds(labels: np.ndarray, folds: int) -> np.ndarray:
    """(n,) a fold for each label, so that every class is spread over all folds."""
    order = np.argsort(labels, kind="stable")
    fold_of = np.empty(len(labels), np.int64)
    fold_of[order] = np.arange(len(labels)) % folds
    return fold_of


def _said(probe: LinearProbe, rows: Tensor, labels: np.ndarray, known: np.ndarray) -> Tensor:
    """Probabilities (N, classes): the label where it is known, what the probe says elsewhere."""
    said = torch.from_numpy(probe.logits(rows.numpy())).softmax(dim=1)
    said[known] = one_hot(torch.from_numpy(labels[known]).long(), said.shape[1]).float()
    return said
