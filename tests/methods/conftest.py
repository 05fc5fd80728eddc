"""Fixtures: a backbone with a feature map that trains in a second, a batch and teacher logits."""

import pytest
import torch
from torch import nn

from tcs_edge.methods import Batch

WIDTH, CHANNELS, CLASSES, IMAGES = 12, 10, 3, 48


class TinyBackbone(nn.Module):
    """Backbone in the style of timm: `forward_features` ends in a map, and a hidden layer follows its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, stride=2), nn.BatchNorm2d(CHANNELS), nn.ReLU())
        self.conv_head = nn.Sequential(nn.Conv2d(CHANNELS, WIDTH, 1), nn.BatchNorm2d(WIDTH), nn.ReLU())

    def forward_features(self, images):
        return self.stem(images)

    def forward(self, images):
        pooled = self.stem(images).mean(dim=(2, 3), keepdim=True)
        return self.conv_head(pooled).flatten(1)


@pytest.fixture
def backbone() -> nn.Module:
    torch.manual_seed(0)
    return TinyBackbone()


@pytest.fixture
def batch():
    """Ten unmixed images of 8 px: every third training image."""
    images = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.arange(10) % CLASSES, torch.arange(10) * 3)


@pytest.fixture
def teacher_logits():
    """Logits (48, 3), some so large that a float32 softmax rounds to 1."""
    return torch.randn(IMAGES, CLASSES, generator=torch.Generator().manual_seed(2)) * 8
