"""Interface of a training method: one training loop and one schedule serve every method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tcs_edge.methods.batch import Batch
from tcs_edge.methods.rows import RowsModule
from tcs_edge.methods.teacher import DistillationTargets
from tcs_edge.specs.config import ResolvedConfig


@dataclass(frozen=True)
class MethodInputs:
    """Arguments of a method's `build`.

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
        """Targets of a method that has a teacher.

        Raises:
            ValueError: there are none.
        """
        if self.targets is None:
            raise ValueError(f"method {self.options.method} needs targets from a teacher")
        return self.targets


@dataclass(frozen=True)
class Losses:
    """Losses of one step: the total to minimize, and its named parts (unweighted) for the log."""

    total: Tensor
    parts: dict[str, Tensor]


class Method(RowsModule, ABC):
    """Head on the student's backbone, with its loss and the model to deploy.

    Callers pass the backbone in; a method never owns it. Cached targets are tables (`keep_rows`): they stay on the
    host, and `gathered` puts a batch's rows into the batch.
    """

    name: str

    @abstractmethod
    def losses(self, backbone: nn.Module, batch: Batch) -> Losses:
        """Losses of a batch. Pass targets of images through `batch.blend`, and labels through `over_labels`."""

    @abstractmethod
    def logits(self, backbone: nn.Module, images: Tensor) -> Tensor:
        """Logits of the student in training, (B, classes)."""

    @abstractmethod
    def deployed(self, backbone: nn.Module) -> nn.Module:
        """Model to deploy, (B, 3, S, S) -> (B, classes), around `backbone` itself."""

    def head_lr(self, lr: float) -> float:
        """Peak learning rate of the method's own weights, > 0, where the backbone's is `lr`."""
        return lr

    def after_backward(self, step: int, total_steps: int) -> None:
        """Run between the backward pass and the optimizer step; `step` counts from 0."""

    def history(self) -> list[dict[str, Any]]:
        """Events of the run so far that a checkpoint must carry, as JSON values."""
        return []

    def restore_history(self, events: list[dict[str, Any]]) -> None:
        """Restore the events that `history` returned; runs after `load_state_dict`."""
