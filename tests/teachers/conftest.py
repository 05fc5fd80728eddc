"""Fixtures: tiny teachers with random weights, and images in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from tcs_edge.data.images import ImageSet, Split


def _random_weights(architecture: str, folder: Path) -> Path:
    torch.manual_seed(0)
    path = folder / f"{architecture}.safetensors"
    save_file(timm.create_model(architecture, num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def vit_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _random_weights("test_vit", tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="session")
def cnn_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _random_weights("test_efficientnet", tmp_path_factory.mktemp("cnn"))


def _split(part: str, count: int, seed: int) -> Split:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 40, 40, 3), np.uint8)
    return Split(pixels, np.arange(count) % 2, tuple(f"{part}/{i}" for i in range(count)))


@pytest.fixture
def image_set() -> ImageSet:
    """20 train, 7 val and 5 test images of noise."""
    train, val, test = _split("train", 20, 1), _split("val", 7, 2), _split("test", 5, 3)
    return ImageSet("noise", ("a", "b"), train, val, test, fingerprint="f" * 64)
