"""Cross-entropy alone: the same student, budget and data without a teacher. The baseline."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tcs_edge.methods.base import Losses, Method


class CrossEntropy(Method):
    """One Linear(d_s, classes) on the backbone, trained on the labels."""

    name = "ce"

    def __init__(self, features: int, classes: int, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.classifier = nn.Linear(features, classes)
        self.label_smoothing = label_smoothing

    def losses(self, features: Tensor, labels: Tensor, index: Tensor) -> Losses:
        logits = self.classifier(features)
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return Losses(loss, {"ce": loss.detach()}, logits)

    @torch.no_grad()
    def deployed(self) -> nn.Linear:
        return copy.deepcopy(self.classifier)
