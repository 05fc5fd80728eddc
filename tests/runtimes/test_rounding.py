"""Emulated float16 and bfloat16 arithmetic of a device."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.rounding import open_rounding

EPSILON = {"f16": 2.0**-11, "bf16": 2.0**-8}  # largest relative error of one rounding


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)


def relative(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).max() / np.abs(first).max())


@pytest.mark.parametrize("arithmetic", ["f16", "bf16"])
def test_emulation_differs_from_float32_by_a_few_roundings(onnx_path, images, arithmetic):
    with OrtRunner(onnx_path) as exact, open_rounding(onnx_path, arithmetic, "device") as rounded:
        off = relative(exact.run(images), rounded.run(images))
        assert (rounded.name, rounded.precision, rounded.labels) == ("device", arithmetic, exact.labels)
    assert EPSILON[arithmetic] / 10 < off < 100 * EPSILON[arithmetic]


@pytest.mark.parametrize("arithmetic", ["f16", "bf16"])
def test_emulation_is_as_far_from_float32_as_torch(model, onnx_path, images, arithmetic):
    kind = {"f16": torch.float16, "bf16": torch.bfloat16}[arithmetic]
    with torch.inference_mode():
        exact = model(torch.from_numpy(images)).numpy()
        own = copy.deepcopy(model).to(kind)(torch.from_numpy(images).to(kind)).float().numpy()
    with open_rounding(onnx_path, arithmetic, "device") as runner:
        assert 0.2 < relative(exact, runner.run(images)) / relative(exact, own) < 5


def test_logits_are_rounded_to_the_shorter_type(onnx_path, images):
    with open_rounding(onnx_path, "f16", "device") as runner:
        logits = runner.run(images)
    np.testing.assert_array_equal(logits, logits.astype(np.float16).astype(np.float32))


def test_a_number_beyond_float16_becomes_infinite(onnx_path, images, tmp_path):
    model, path = onnx.load(onnx_path), tmp_path / "large.onnx"
    graph = model.graph
    factor = numpy_helper.from_array(np.float32(1e6), "factor")
    graph.initializer.append(factor)
    for node in graph.node:
        node.output[:] = ["small" if name == "logits" else name for name in node.output]
    graph.node.append(onnx.helper.make_node("Mul", ["small", "factor"], ["logits"]))
    onnx.save(model, path)
    with OrtRunner(path) as exact, open_rounding(path, "f16", "device") as rounded:
        assert np.isfinite(exact.run(images)).all()
        assert np.isinf(rounded.run(images)).all()
