"""Linear probe: multinomial logistic regression on features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

STEPS = 100  # of L-BFGS


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
        logits: np.ndarray = features.astype(np.float32) @ self.weight.T + self.bias
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
    x = torch.from_numpy(features.astype(np.float32))
    soft = labels.ndim == 2
    y = torch.from_numpy(np.asarray(labels, np.float32 if soft else np.int64))
    mean = x.mean(dim=0)
    scale = (x - mean).square().mean().sqrt().clamp_min(1e-12)
    count = classes or (labels.shape[1] if soft else int(labels.max()) + 1)
    weight, bias = _minimize((x - mean) / scale, y, count, l2)
    weight = weight / scale
    return LinearProbe(weight.numpy(), (bias - weight @ mean).numpy())


def _minimize(x: torch.Tensor, y: torch.Tensor, classes: int, l2: float) -> tuple[torch.Tensor, torch.Tensor]:
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(x @ weight.T + bias, y) + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()
