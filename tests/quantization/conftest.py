"""Fixtures: the tiny model in int8, made once per session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tcs_edge.quantization.qdq import Scheme, quantized
from tcs_edge.runtimes.onnx_file import read_onnx

PER_CHANNEL = Scheme(per_channel=True, signed_activations=False, seven_bit_weights=False)


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="session")
def original(onnx_path: Path) -> onnx.ModelProto:
    return read_onnx(onnx_path)


@pytest.fixture(scope="session")
def calibration() -> list[np.ndarray]:
    return [image[None] for image in noise(8)]


@pytest.fixture(scope="session")
def ranges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranges") / "ranges.json"


@pytest.fixture(scope="session")
def int8(onnx_path: Path, calibration: list[np.ndarray], ranges: Path) -> onnx.ModelProto:
    return quantized(onnx_path, PER_CHANNEL, calibration, ranges)
