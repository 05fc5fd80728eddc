"""Targets of distillation: cached per training image, or computed by an online teacher at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tcs_edge.methods.batch import Batch
from tcs_edge.methods.rows import RowsModule
from tcs_edge.tcs.coordinates import Coordinates

# A batch of B images -> its targets (B, ...), float32, without gradient.
TargetSource = Callable[[Batch], Tensor]

Triple = tuple[float, float, float]


class View(Protocol):
    """Preprocessing of a model's images: size in pixels, resize filter, mean and std per channel."""

    @property
    def img_size(self) -> int: ...

    @property
    def interpolation(self) -> str: ...

    @property
    def mean(self) -> Triple: ...

    @property
    def std(self) -> Triple: ...


class CachedTargets(RowsModule):
    """One target per training image, from the teacher's single pass over the plain images.

    Mixed images get targets mixed alike. The targets are a float16 table on the host; a batch carries its rows.
    """

    rows: Tensor

    def __init__(self, targets: Tensor) -> None:
        super().__init__()
        self.shape = targets.shape[1:]
        self.keep_rows("rows", targets.flatten(1).to(torch.float16))

    def forward(self, batch: Batch) -> Tensor:
        return batch.blend(self.rows_of("rows", batch).float()).unflatten(1, self.shape)


class OnlineTeacher:
    """The teacher itself, run at every step on the student's own view, mixed or not.

    It is deliberately not a module: training, moves to a device and checkpoints pass over it.

    Args:
        compute: (B, 3, T, T), normalized for the teacher -> targets (B, ...); frozen, in eval mode, on the
            training device.
        student, teacher: preprocessing of the student's images, and of the teacher's.
    """

    def __init__(self, compute: Callable[[Tensor], Tensor], student: View, teacher: View) -> None:
        self.compute, self.student, self.teacher = compute, student, teacher

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        return self.compute(self.view(batch.images)).float()

    def view(self, images: Tensor) -> Tensor:
        """Return the student's images (B, 3, S, S) at the teacher's size, in the teacher's normalization."""
        pixels = images.float() * _channels(self.student.std, images) + _channels(self.student.mean, images)
        if images.shape[-1] != self.teacher.img_size:
            size = (self.teacher.img_size, self.teacher.img_size)
            # Bicubic overshoots at edges; an image has no values outside 0..1.
            pixels = interpolate(pixels, size, mode=self.teacher.interpolation, antialias=True).clamp(0, 1)
        return (pixels - _channels(self.teacher.mean, images)) / _channels(self.teacher.std, images)


@dataclass(frozen=True)
class DistillationTargets:
    """Targets from the teacher for one training run.

    Attributes:
        rows: row i for training image i: coordinates (N, k), logits (N, classes) or maps (N, d, g, g), as the
            method needs; None with an online teacher.
        online: the teacher in memory, instead of `rows`.
        probe: linear probe of the teacher, for a method that starts from it or ends in it.
        signed: whether the teacher's features take negative values.
        grid: g, side of the maps; 0 without maps.
        coordinates: coordinate system of `rows`, for TCS.
        soft_labels: logits (N, classes) of the training images, for TCS.
        soft_share: share of the soft label in the loss of an image with a label, in [0, 1].
        probe_accuracy: validation accuracy of the teacher's linear probe, in 0..1.
    """

    rows: Tensor | None = None
    online: OnlineTeacher | None = None
    probe: nn.Linear | None = None
    signed: bool = True
    grid: int = 0
    coordinates: Coordinates | None = None
    soft_labels: Tensor | None = None
    soft_share: float = 0.0
    probe_accuracy: float | None = None

    def source(self) -> TargetSource:
        """Return the function from a batch to its targets."""
        return CachedTargets(self.cached()) if self.online is None else self.online

    def cached(self) -> Tensor:
        """Return the cached targets of every training image, (N, ...).

        Raises:
            ValueError: the teacher is online.
        """
        if self.rows is None:
            raise ValueError("this method needs cached targets, but the teacher is online")
        return self.rows


def _channels(values: Triple, like: Tensor) -> Tensor:
    return _on_device(values, like.device)


@lru_cache
def _on_device(values: Triple, device: torch.device) -> Tensor:
    """Return a value per channel, (3, 1, 1); copied once, because a GPU waits for a copy from the CPU."""
    return torch.tensor(values, device=device)[:, None, None]
