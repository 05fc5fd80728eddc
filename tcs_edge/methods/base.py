"""The verbs every training method has, so that one loop and one budget serve them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Losses:
    """What one step minimises: the total, and its named parts (unweighted) for the log."""

    total: Tensor
    parts: dict[str, Tensor]
    logits: Tensor


class Method(nn.Module, ABC):
    """A head on the student's backbone, its loss, and what of it is deployed.

    Cached targets are non-persistent buffers: they follow the module to its device and stay
    out of checkpoints. `index` tells which training image each row of a batch is.
    """

    name: str

    @abstractmethod
    def losses(self, features: Tensor, labels: Tensor, index: Tensor) -> Losses:
        """Loss of a batch: backbone features (B, d_s), labels (B,), image indices (B,)."""

    @abstractmethod
    def deployed(self) -> nn.Linear:
        """The one layer behind the deployed backbone, Linear(d_s, classes)."""

    def after_backward(self, step: int, total_steps: int) -> None:
        """Called between the backward pass and the optimiser; step counts from 0."""

    def history(self) -> list[dict]:
        """JSON-able events of the run so far that a checkpoint must carry."""
        return []

    def restore_history(self, events: list[dict]) -> None:
        """Take back what `history` gave, after `load_state_dict`."""
