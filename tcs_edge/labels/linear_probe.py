"""How good a teacher is on the user's own data: a linear probe and nearest neighbors on its features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

_ROWS = 4096


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
        """float32 (N, classes) of features (N, d)."""
        return features.astype(np.float32) @ self.weight.T + self.bias

    def accuracy(self, features: np.ndarray, labels: np.ndarray) -> float:
        """Part of the rows whose largest logit is the label, 0..1."""
        if len(labels) == 0:
            raise ValueError("no rows to score")
        return float((self.logits(features).argmax(axis=1) == labels).mean())


def fit_linear_probe(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int | None = None,
    l2: float = 1e-3,
    steps: int = 100,
) -> LinearProbe:
    """Fit by L-BFGS, full batch, from zero: no randomness.

    The features are centered and divided by one global RMS before the fit, and the result is folded back,
    so `l2` means the same for every teacher.

    Args:
        features: (N, d), any float type.
        labels: int (N,) in 0..classes-1, or probabilities float (N, classes).
        l2: weight of sum(weight ** 2) / 2 beside the mean cross-entropy.
    """
    x = torch.from_numpy(features.astype(np.float32))
    soft = labels.ndim == 2
    y = torch.from_numpy(np.asarray(labels, np.float32 if soft else np.int64))
    mean = x.mean(dim=0)
    scale = (x - mean).square().mean().sqrt().clamp_min(1e-12)
    count = classes or (labels.shape[1] if soft else int(labels.max()) + 1)
    weight, bias = _minimize((x - mean) / scale, y, count, l2, steps)
    weight = weight / scale
    return LinearProbe(weight.numpy(), (bias - weight @ mean).numpy())


def linear_probe(
    features_train: np.ndarray,
    y: np.ndarray,
    features_val: np.ndarray,
    y_val: np.ndarray,
    l2: float = 1e-3,
    steps: int = 100,
) -> float:
    """Validation accuracy (0..1) of `fit_linear_probe` on (N, d) and (M, d) features."""
    classes = int(max(np.max(y), np.max(y_val))) + 1
    return fit_linear_probe(features_train, y, classes, l2, steps).accuracy(features_val, y_val)


def knn_accuracy(
    features_train: np.ndarray,
    y: np.ndarray,
    features_val: np.ndarray,
    y_val: np.ndarray,
    k: int = 10,
    temperature: float = 0.07,
) -> float:
    """Validation accuracy (0..1) of the `k` most cosine-similar training rows.

    Each neighbor votes for its class with exp(similarity / temperature) (arXiv 1805.01978, section 3.4).
    """
    if len(y_val) == 0 or k < 1:
        raise ValueError(f"need k >= 1 and rows to score, got k={k} and {len(y_val)} rows")
    bank = normalize(torch.from_numpy(features_train.astype(np.float32)), dim=1)
    labels = torch.from_numpy(np.asarray(y, np.int64))
    classes = int(labels.max()) + 1
    right = 0
    for start in range(0, len(y_val), _ROWS):
        rows = torch.from_numpy(features_val[start : start + _ROWS].astype(np.float32))
        votes = _votes(normalize(rows, dim=1) @ bank.T, labels, classes, min(k, len(labels)), temperature)
        right += int((votes.argmax(dim=1).numpy() == y_val[start : start + _ROWS]).sum())
    return right / len(y_val)


def _votes(similarity: torch.Tensor, labels: torch.Tensor, classes: int, k: int, temperature: float) -> torch.Tensor:
    near, index = similarity.topk(k, dim=1)
    votes = torch.zeros(len(similarity), classes)
    return votes.scatter_add_(1, labels[index], ((near - 1) / temperature).exp())


def _minimize(
    x: torch.Tensor, y: torch.Tensor, classes: int, l2: float, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(x @ weight.T + bias, y) + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()
