"""Linear probe: multinomial logistic regression on features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

STEPS = 100  # of L-BFGS
# More rows than this are read in parts, so that no second copy of all features is made.
ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on features: logits = features @ weight.T + bias.

    Attributes:
        weight: float32 (classes, d).
        bias: float32 (classes,).
    """

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Compute logits, float32 (N, classes), of features (N, d)."""
        logits = np.empty((len(features), len(self.bias)), np.float32)
        for part in _parts(len(features)):
            logits[part] = features[part].astype(np.float32) @ self.weight.T + self.bias
        return logits

    def accuracy(self, features: np.ndarray, labels: np.ndarray) -> float:
        """Fraction of the rows whose largest logit is the label, 0..1."""
        if len(labels) == 0:
            raise ValueError("no rows to score")
        return float((self.logits(features).argmax(axis=1) == labels).mean())


def fit_linear_probe(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int | None = None,
    l2: float = 1e-3,
) -> LinearProbe:
    """Fit a linear probe by full-batch L-BFGS from zero weights, without randomness.

    The features are centered and divided by one global RMS before the fit, so that `l2` has the same
    meaning for every teacher. The returned weights apply to the original features.

    Args:
        features: (N, d), any float type.
        labels: int (N,) in 0..classes-1, or probabilities float (N, classes).
        classes: number of classes; None takes it from `labels`.
        l2: weight of sum(weight ** 2) / 2, added to the mean cross-entropy.
        steps: largest number of L-BFGS iterations.
    """
    if len(features) > ROWS_AT_ONCE:
        return _fit_in_parts(features, labels, classes, l2)
    x = torch.from_numpy(features.astype(np.float32))
    soft = labels.ndim == 2
    y = torch.from_numpy(np.asarray(labels, np.float32 if soft else np.int64))
    mean = x.mean(dim=0)
    x.sub_(mean)  # in place, so that there is one float32 copy of the features
    scale = x.square().mean().sqrt().clamp_min(1e-12)
    x.div_(scale)
    count = classes or (labels.shape[1] if soft else int(labels.max()) + 1)

    def loss_and_gradient(weight: Tensor, bias: Tensor) -> Tensor:
        loss = cross_entropy(x @ weight.T + bias, y) + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    weight, bias = _minimize(loss_and_gradient, count, x.shape[1])
    weight = weight / scale
    return LinearProbe(weight.numpy(), (bias - weight @ mean).numpy())


def _fit_in_parts(features: np.ndarray, labels: np.ndarray, classes: int | None, l2: float) -> LinearProbe:
    """Fit as `fit_linear_probe`, with the float32 copy of one part of the rows at a time."""
    rows, parts = len(features), _parts(len(features))
    count = classes or (labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1)
    mean64 = sum(features[part].sum(axis=0, dtype=np.float64) for part in parts) / rows
    mean = torch.from_numpy(np.asarray(mean64, np.float32))
    squares = sum(float(_part(features, part).sub_(mean).square_().sum(dtype=torch.float64)) for part in parts)
    scale = max((squares / features.size) ** 0.5, 1e-12)

    def loss_and_gradient(weight: Tensor, bias: Tensor) -> Tensor:
        loss = l2 / 2 * weight.square().sum()
        loss.backward()
        total = loss.detach()
        for part in parts:
            wanted = torch.from_numpy(np.asarray(labels[part], np.float32 if labels.ndim == 2 else np.int64))
            logits = _part(features, part).sub_(mean).div_(scale) @ weight.T + bias
            loss = cross_entropy(logits, wanted, reduction="sum") / rows
            loss.backward()
            total = total + loss.detach()
        return total

    weight, bias = _minimize(loss_and_gradient, count, features.shape[1])
    weight = weight / scale
    return LinearProbe(weight.numpy(), (bias - weight @ mean).numpy())


def _minimize(
    loss_and_gradient: Callable[[Tensor, Tensor], Tensor], classes: int, features: int
) -> tuple[Tensor, Tensor]:
    weight = torch.zeros(classes, features, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        return loss_and_gradient(weight, bias)

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def _part(features: np.ndarray, part: slice) -> Tensor:
    """Return a float32 copy of some rows."""
    return torch.from_numpy(features[part].astype(np.float32))


def _parts(rows: int) -> list[slice]:
    return [slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE)]
