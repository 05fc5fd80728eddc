"""Training heads behind the student's backbone, and their folding into one linear layer.

Coordinates h = A g + b and logits W (m * h) + c are linear in the backbone's features g. So
W' = W diag(m) A and c' = c + W diag(m) b give the same logits (arXiv 2412.09388). The deployed model
is the plain student with one Linear, at no extra cost.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tcs_edge.errors import ParityFailed
from tcs_edge.tcs.selection import FeatureSelection, SelectionSchedule

# Rounding difference between two chained float32 products and one, relative to the largest logit.
FOLD_TOLERANCE = 1e-5


class FoldedHead(nn.Linear):
    """Linear(d_s, classes) of the logits, with Linear(d_s, k) of the kept coordinates beside it.

    `coordinates` is neither a parameter nor part of the state: the deployed model has it only for embeddings.
    """

    def __init__(self, features: int, classes: int, coordinates: nn.Linear) -> None:
        super().__init__(features, classes)
        self._beside = (coordinates,)  # a tuple, because torch registers a module that is an attribute

    @property
    def coordinates(self) -> nn.Linear:
        """The adapter A, b without the coordinates that the selection removed: (B, d_s) -> (B, k)."""
        return self._beside[0]


class TcsHead(nn.Module):
    """Adapter A (k, d_s), mask m (k,) and classifier W (classes, k).

    Args:
        start: Linear(k, classes) with the initial values of W and c; None draws them at random.
    """

    def __init__(
        self, features: int, dims: int, classes: int, schedule: SelectionSchedule, start: nn.Linear | None = None
    ) -> None:
        super().__init__()
        self.adapter = nn.Linear(features, dims)
        self.selection = FeatureSelection(dims, schedule)
        self.classifier = nn.Linear(dims, classes)
        if start is not None:
            self.classifier.load_state_dict(start.state_dict())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (B, classes) and coordinates h (B, k) of features (B, d_s)."""
        coordinates = self.adapter(features)
        return self.classifier(self.selection.mask() * coordinates), coordinates

    @torch.no_grad()
    def fold(self) -> FoldedHead:
        """Fold the head into the equivalent Linear(d_s, classes), in float64 rounded once to float32."""
        masked = self.classifier.weight.double() * self.selection.mask().double()
        kept = _rows(self.adapter, self.selection.alive)
        folded = FoldedHead(self.adapter.in_features, self.classifier.out_features, kept)
        folded.weight.copy_(masked @ self.adapter.weight.double())
        folded.bias.copy_(self.classifier.bias.double() + masked @ self.adapter.bias.double())
        folded.to(self.adapter.weight.device)  # in place
        return folded


class LinearHead(nn.Module):
    """Classifier (classes, d_s) on the backbone's features, beside an adapter (k, d_s) that only the mimicking uses.

    All coordinates are kept, since the classifier does not read them.
    """

    def __init__(self, features: int, dims: int, classes: int) -> None:
        super().__init__()
        self.adapter = nn.Linear(features, dims)
        self.selection = FeatureSelection(dims, SelectionSchedule(kept_fraction=1.0)).requires_grad_(False)
        self.classifier = nn.Linear(features, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (B, classes) and coordinates h (B, k) of features (B, d_s)."""
        return self.classifier(features), self.adapter(features)

    @torch.no_grad()
    def fold(self) -> FoldedHead:
        """Return a copy of the classifier, with the coordinates beside it."""
        kept = _rows(self.adapter, self.selection.alive)
        folded = FoldedHead(self.classifier.in_features, self.classifier.out_features, kept)
        folded.load_state_dict(self.classifier.state_dict())
        folded.to(self.classifier.weight.device)  # in place
        return folded


def _rows(linear: nn.Linear, kept: Tensor) -> nn.Linear:
    """Return a copy of `linear` with the outputs that `kept`, (k,) of 0 and 1, names."""
    rows = torch.nonzero(kept.bool()).flatten()
    copy = nn.Linear(linear.in_features, len(rows), device=linear.weight.device)
    copy.weight.copy_(linear.weight[rows])
    copy.bias.copy_(linear.bias[rows])
    return copy


def check_fold(trained: Tensor, folded: Tensor) -> float:
    """Largest difference between logits before and after folding, relative to the largest logit.

    Args:
        trained, folded: logits (B, classes) of the same real images.

    Raises:
        ParityFailed: the difference is above `FOLD_TOLERANCE`, or not finite.
    """
    difference = (folded - trained).detach().abs().max() / trained.detach().abs().max().clamp_min(1e-12)
    if not difference <= FOLD_TOLERANCE:
        raise ParityFailed(
            f"folding changed the logits by {difference:.2e} of the largest logit, the limit is "
            f"{FOLD_TOLERANCE:.0e}. Train with a smaller --lr. The trained checkpoint is kept."
        )
    return float(difference)
