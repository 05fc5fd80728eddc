"""The verbs every training method has, so that one loop and one budget serve them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tcs_edge.methods.batch import Batch
from tcs_edge.methods.teacher import DistillationTargets
from tcs_edge.specs.config import ResolvedConfig


@dataclass(frozen=True)
class MethodInputs:
    """What a method's `build` gets.

    Attributes:
        backbone: the student, (B, 3, S, S) -> (B, feature_dim); a method may change its head.
        img_size: S, side of the student's input in pixels.
        targets: from the teacher; None for a method without one.
    """

    backbone: nn.Module
    feature_dim: int
    img_size: int
    classes: int
    options: ResolvedConfig
    targets: DistillationTargets | None

    @property
    def label_smoothing(self) -> float:
        """Share of each label spread over all classes."""
        return self.options.train.label_smoothing

    @property
    def teacher_targets(self) -> DistillationTargets:
        """The targets of a method that has a teacher."""
        if self.targets is None:
            raise ValueError(f"method {self.options.method} needs targets from a teacher")
        return self.targets


@dataclass(frozen=True)
class Losses:
    """What one step minimizes: the total, and its named parts (unweighted) for the log."""

    total: Tensor
    parts: dict[str, Tensor]


class Method(nn.Module, ABC):
    """What stands behind the student's backbone, its loss, and what of it is deployed.

    The backbone is passed in and never owned. Cached targets are non-persistent buffers: they
    follow the module to its device and stay out of checkpoints.
    """

    name: str

    @abstractmethod
    def losses(self, backbone: nn.Module, batch: Batch) -> Losses:
        """Loss of a batch; what is looked up per image goes through `batch.blend`, labels through `over_labels`."""

    @abstractmethod
    def logits(self, backbone: nn.Module, images: Tensor) -> Tensor:
        """What the student answers as it is trained, (B, classes)."""

    @abstractmethod
    def deployed(self, backbone: nn.Module) -> nn.Module:
        """The model that is deployed, (B, 3, S, S) -> (B, classes), around `backbone` itself."""

    def head_lr(self, lr: float) -> float:
        """The peak learning rate of the method's own weights, > 0, where the backbone's is `lr`."""
        return lr

    def after_backward(self, step: int, total_steps: int) -> None:
        """Called between the backward pass and the optimizer; step counts from 0."""

    def history(self) -> list[dict[str, Any]]:
        """JSON-able events of the run so far that a checkpoint must carry."""
        return []

    def restore_history(self, events: list[dict[str, Any]]) -> None:
        """Take back what `history` gave, after `load_state_dict`."""
