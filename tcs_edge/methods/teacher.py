"""What a teacher leaves to a method: its answers looked up per image, or the teacher itself in the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tcs_edge.methods.batch import Batch
from tcs_edge.tcs.coordinates import Coordinates

# A batch of B images -> the teacher's answers to it, (B, ...), float32 and without gradient.
Answers = Callable[[Batch], Tensor]

Triple = tuple[float, float, float]


class View(Protocol):
    """What images went through before a model sees them: size, filter, and mean and std per channel."""

    @property
    def img_size(self) -> int: ...

    @property
    def interpolation(self) -> str: ...

    @property
    def mean(self) -> Triple: ...

    @property
    def std(self) -> Triple: ...


class CachedAnswers(nn.Module):
    """One answer per training image, from the single pass over the plain images.

    Where images are mixed, their answers are mixed alike. Kept as float16 rows in a buffer that follows
    the method to its device and stays out of checkpoints.
    """

    rows: Tensor

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.shape = answers.shape[1:]
        # Flat, so that a change of memory format never copies the maps.
        self.register_buffer("rows", answers.flatten(1).to(torch.float16), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        return batch.blend(self.rows[batch.index].float()).unflatten(1, self.shape)


class OnlineTeacher:
    """The teacher, asked at every step about the very view that the student sees, mixed or not.

    No module on purpose: it is not trained, not moved with the method, and not in any checkpoint.

    Args:
        answer: (B, 3, T, T) normalized for the teacher -> its answers; frozen, in eval mode, on the
            training device.
        student, teacher: what the images went through, and what the teacher expects.
    """

    def __init__(self, answer: Callable[[Tensor], Tensor], student: View, teacher: View) -> None:
        self.answer, self.student, self.teacher = answer, student, teacher

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        return self.answer(self.view(batch.images)).float()

    def view(self, images: Tensor) -> Tensor:
        """The student's images (B, 3, S, S) at the teacher's size, in the teacher's normalization."""
        pixels = images.float() * _channels(self.student.std, images) + _channels(self.student.mean, images)
        if images.shape[-1] != self.teacher.img_size:
            size = (self.teacher.img_size, self.teacher.img_size)
            # Bicubic overshoots at edges; a picture has no values outside 0..1.
            pixels = interpolate(pixels, size, mode=self.teacher.interpolation, antialias=True).clamp(0, 1)
        return (pixels - _channels(self.teacher.mean, images)) / _channels(self.teacher.std, images)


@dataclass(frozen=True)
class DistillationTargets:
    """A teacher's share in one training run.

    Attributes:
        answers: row i for training image i: coordinates (N, k), logits (N, classes) or maps
            (N, d, g, g), whichever the method learns from; None when the teacher is in the loop.
        online: the teacher in memory, instead of `answers`.
        probe: the teacher's linear classifier, where the student ends in it.
        signed: whether the teacher's features take negative values.
        grid: g, side of the maps; 0 where there are none.
        coordinates: what `answers` are coordinates in, for TCS.
        soft_labels: logits (N, classes) that stand in for labels, for TCS.
    """

    answers: Tensor | None = None
    online: OnlineTeacher | None = None
    probe: nn.Linear | None = None
    signed: bool = True
    grid: int = 0
    coordinates: Coordinates | None = None
    soft_labels: Tensor | None = None

    def ask(self) -> Answers:
        """How a method gets the answers of a batch."""
        if self.online is not None:
            return self.online
        return CachedAnswers(self.rows)

    @property
    def rows(self) -> Tensor:
        """The cached answers of every training image."""
        if self.answers is None:
            raise ValueError("this method needs cached answers, and the teacher is in the loop")
        return self.answers


def _channels(values: Triple, like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)[:, None, None]
