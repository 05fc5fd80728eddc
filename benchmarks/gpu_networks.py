"""Networks, methods and random batches of the GPU check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from gpu_figures import (
    BATCH,
    CLASSES,
    DEVICE,
    DIMS,
    FEW_ROWS,
    ROWS,
    SIZE,
    STUDENT,
    TEACHER,
    Rows,
)
from torch import nn

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.methods import CachedTargets, CrossEntropy, Kd, Method, OnlineTeacher, SimKd, Tcs
from tcs_edge.models.feature_map import drop_head, map_shape
from tcs_edge.specs.training import TrainOptions
from tcs_edge.students.build import build_student, feature_dim
from tcs_edge.tcs.selection import SelectionSchedule
from tcs_edge.training import trainer
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.schedule import Schedule


def device() -> torch.device:
    """The device under test."""
    return torch.device(DEVICE)


def make_teacher_module() -> nn.Module:
    """Frozen teacher network with random weights, on the device."""
    torch.manual_seed(0)
    module = timm.create_model(TEACHER, num_classes=0, img_size=SIZE)
    return module.eval().requires_grad_(False).to(device())


def make_student() -> tuple[nn.Module, int]:
    """Student with random weights, and the width of its features."""
    backbone = build_student(STUDENT, SIZE, "random", 0)
    return backbone, feature_dim(backbone, SIZE)


def make_method(name: str, width: int, rows: int = ROWS) -> Method:
    """Method ce, tcs, tcs-lsh or kd behind `width` features, with random targets of `rows` training images."""
    teacher = make_teacher_module() if name == "kd" else None
    torch.manual_seed(0)  # for the head's weights
    generator = torch.Generator().manual_seed(0)
    if name == "ce":
        return CrossEntropy(width, CLASSES)
    if teacher:
        probe = nn.Linear(teacher.num_features, CLASSES).to(device())
        view = Preprocess(SIZE)
        return Kd(width, CLASSES, OnlineTeacher(nn.Sequential(teacher, probe).requires_grad_(False), view, view))
    return Tcs(
        width,
        CLASSES,
        torch.randn(rows, DIMS, generator=generator).half(),
        SelectionSchedule(),
        mimic="lsh" if name == "tcs-lsh" else "cosine",
        soft_share=0.9,
        soft_labels=torch.randn(rows, CLASSES, generator=generator).half(),
    )


def make_simkd() -> tuple[nn.Module, Method]:
    """SimKD with cached maps; the student's grid is one wider than the teacher's, so pooling is uneven."""
    backbone, _ = make_student()
    drop_head(backbone, SIZE)
    channels, side = map_shape(backbone, SIZE)
    grid = max(1, side - 1)
    maps = CachedTargets(torch.randn(FEW_ROWS, 64, grid, grid))
    return backbone, SimKd(channels, nn.Linear(64, CLASSES), maps, grid, True)


def random_batches(count: int, batch: int = BATCH, where: str = "cpu", rows: int = ROWS) -> list[Rows]:
    """Batches of noise, the same in every call."""
    generator = torch.Generator().manual_seed(0)

    def one() -> Rows:
        images = torch.randn(batch, 3, SIZE, SIZE, generator=generator)
        labels = torch.randint(0, CLASSES, (batch,), generator=generator)
        return images.to(where), labels.to(where), torch.randint(0, rows, (batch,), generator=generator).to(where)

    return [one() for _ in range(count)]


def train(
    backbone: nn.Module,
    method: Method,
    batches: Callable[[int], Any],
    steps: int,
    epochs: int,
    batch: int,
    where: str = DEVICE,
    **options: Any,
) -> None:
    """Run the training loop; `options` are fields of TrainOptions, or log, checkpoint and resume."""
    loop = {name: options.pop(name) for name in ("log", "checkpoint", "resume") if name in options}
    trainer.train(
        backbone,
        method,
        trainer.Data(batches, steps, lambda: []),
        Schedule(epochs, batch, 1e-3),
        0,
        make_accelerator(where, options.get("amp", "no")),
        options=TrainOptions(**options),
        **loop,
    )
