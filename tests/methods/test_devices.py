"""A training step stays on the device of the model: the meta device refuses mixed devices and gives no numbers back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from tcs_edge.methods import Batch, CachedTargets, CrossEntropy, Dkd, Kd, Method, SimKd, Tcs
from tcs_edge.methods.batch import Mix
from tcs_edge.models.feature_map import drop_head, map_shape
from tcs_edge.students.build import feature_dim
from tcs_edge.tcs.selection import SelectionSchedule
from tcs_edge.training.ema import WeightAverage

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
        rows=method.gathered(torch.arange(8), torch.device("meta")),
    )
    if mixed:
        batch = batch.mixed(Mix(torch.zeros(8, dtype=torch.int64, device="meta"), torch.empty((), device="meta")))
    losses = method.losses(backbone, batch)
    assert losses.total.device.type == "meta"
    losses.total.backward()


@pytest.mark.parametrize("name", METHODS)
def test_the_work_after_a_backward_pass_does_not_wait_for_the_device(name):
    method, backbone = METHODS[name]().to("meta"), Pool().to("meta")
    average = WeightAverage(nn.ModuleList([backbone, method]), 0.99)
    index = torch.arange(8)
    labels, rows = torch.zeros(8, dtype=torch.int64, device="meta"), method.gathered(index, torch.device("meta"))
    images = torch.empty(8, 3, 4, 4, device="meta")
    method.losses(backbone, Batch(images, labels, index.to("meta"), rows=rows)).total.backward()
    method.after_backward(0, 1000)
    average.update(0)


@pytest.mark.parametrize("name", METHODS)
def test_tables_stay_on_the_host_and_a_batch_carries_its_rows(name):
    """Nothing with a row per training image is on the device, in a checkpoint, or sent to other processes."""
    method = METHODS[name]().to("meta")
    on_device = [*method.parameters(), *method.buffers()]
    assert not [values for values in on_device if values.ndim and values.shape[0] == IMAGES]
    assert not [key for key in method.state_dict() if key.split(".")[-1] in ("rows", "targets", "soft_labels")]
    index = torch.tensor([5, 0, 47])
    found = method.gathered(index, torch.device("cpu"))
    assert len(found) == {"ce": 0, "tcs": 2, "tcs, hashing": 3}.get(name, 1)
    assert {len(rows) for rows in found.values()} <= {3}
    assert {rows.device.type for rows in method.gathered(index, torch.device("meta")).values()} <= {"meta"}


@pytest.mark.parametrize("name", METHODS)
def test_rows_in_the_batch_replace_the_table(name):
    torch.manual_seed(0)
    method, backbone, index = METHODS[name](), Pool(), torch.tensor([4, 40, 11])
    plain = Batch(torch.randn(3, 3, 4, 4), torch.tensor([0, 1, 2]), index)
    carried = replace(plain, index=torch.zeros(3, dtype=torch.int64), rows=method.gathered(index, torch.device("cpu")))
    state = {key: value.clone() for key, value in method.state_dict().items()}  # batch norms change it
    total = method.losses(backbone, plain).total
    method.load_state_dict(state)
    assert torch.equal(method.losses(backbone, carried).total, total)


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
