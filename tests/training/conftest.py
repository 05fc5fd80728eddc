"""Fixtures: a problem small enough to train in a second."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tcs_edge.methods import Tcs
from tcs_edge.tcs.selection import SelectionSchedule
from tcs_edge.training.trainer import Data, epoch_seed

IMAGES, CLASSES, DIMS = 48, 3, 8


class Problem:
    """Color patches in three classes; batches, a backbone and a method, all by seed."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(IMAGES) % CLASSES
        noise = torch.randn(IMAGES, 3, 8, 8, generator=generator)
        self.images = noise * 0.3 + nn.functional.one_hot(self.labels, 3).float()[:, :, None, None]
        self.targets = torch.randn(IMAGES, DIMS, generator=generator)
        self.data = Data(self.batches, steps_per_epoch=3, val=lambda: [(self.images, self.labels, self.labels)])

    def batches(self, epoch: int):
        order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(epoch_seed(1, epoch)))
        for index in order.split(16):
            yield self.images[index], self.labels[index], index

    def backbone(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU(), nn.Dropout(0.1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip

    def method(self, **options) -> Tcs:
        torch.manual_seed(1)
        return Tcs(12, CLASSES, self.targets, SelectionSchedule(rounds=3), **options)


@pytest.fixture
def problem() -> Problem:
    return Problem()


@pytest.fixture(scope="session")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)
