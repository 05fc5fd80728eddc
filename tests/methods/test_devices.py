"""A training step stays on the device of the model: the meta device refuses mixed devices and gives no numbers back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from tcs_edge.methods import Batch, CachedTargets, CrossEntropy, Dkd, Kd, Method, SimKd, Tcs
from tcs_edge.methods.batch import Mix
from tcs_edge.models.feature_map import drop_head, map_shape
from tcs_edge.students.build import feature_dim
from tcs_edge.tcs.selection import SelectionSchedule

IMAGES, CLASSES, WIDTH, DIMS = 48, 3, 12, 8


class Pool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 3, padding=1)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images).mean(dim=(2, 3))


def tcs(**options: object) -> Tcs:
    soft = {"soft_labels": torch.randn(IMAGES, CLASSES), "soft_share": 0.5}
    return Tcs(WIDTH, CLASSES, torch.randn(IMAGES, DIMS), SelectionSchedule(), **soft | options)


METHODS: dict[str, Callable[[], Method]] = {
    "ce": lambda: CrossEntropy(WIDTH, CLASSES),
    "kd": lambda: Kd(WIDTH, CLASSES, CachedTargets(torch.randn(IMAGES, CLASSES))),
    "dkd": lambda: Dkd(WIDTH, CLASSES, CachedTargets(torch.randn(IMAGES, CLASSES))),
    "simkd": lambda: SimKd(WIDTH, nn.Linear(16, CLASSES), CachedTargets(torch.randn(IMAGES, 16, 4, 4)), 4, True),
    "tcs": lambda: tcs(mimic_warmup=0.2),
    "tcs, hashing": lambda: tcs(mimic="lsh+mse", hash_bits=16),
}


@pytest.mark.parametrize("mixed", [False, True], ids=["plain", "mixup"])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_needs_nothing_from_another_device(name, mixed):
    method, backbone = METHODS[name](), Pool()
    method.to("meta")
    backbone.to("meta")
    batch = Batch(
        torch.empty(8, 3, 4, 4, device="meta"),
        torch.zeros(8, dtype=torch.int64, device="meta"),
        torch.zeros(8, dtype=torch.int64, device="meta"),
    )
    if mixed:
        batch = batch.mixed(Mix(torch.zeros(8, dtype=torch.int64, device="meta"), torch.empty((), device="meta")))
    losses = method.losses(backbone, batch)
    assert losses.total.device.type == "meta"
    losses.total.backward()


@pytest.mark.parametrize("name", METHODS)
def test_targets_follow_the_method_and_are_neither_saved_nor_broadcast(name):
    """DistributedDataParallel sends all buffers to every process before each forward pass."""
    method = METHODS[name]()
    assert sum(buffer.numel() for buffer in method.buffers()) < IMAGES * CLASSES
    assert not [key for key in method.state_dict() if key.split(".")[-1] in ("rows", "targets", "soft_labels")]
    method.to("meta")
    kept = [getattr(part, row) for part in method.modules() for row in getattr(part, "_row_names", [])]
    assert len(kept) == {"ce": 0, "tcs": 2, "tcs, hashing": 5}.get(name, 1)
    assert {rows.device.type for rows in kept} <= {"meta"}


def test_the_shapes_of_a_student_are_found_on_its_own_device():
    """A pretrained student is on the GPU after its own probe was fitted."""
    student = timm.create_model("lcnet_050", num_classes=0)
    width = feature_dim(student, 64)
    student.to("meta")
    assert feature_dim(student, 64) == width
    channels, side = map_shape(student, 64)
    assert (channels > 0, side) == (True, 2)
    drop_head(student, 64)
    assert map_shape(student, 64) == (channels, side)
