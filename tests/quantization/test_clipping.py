"""Clipped ranges of activations: shorter only where that lowers the error of rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tcs_edge.quantization.clipping import with_clipped_ranges
from tcs_edge.quantization.qdq import Scheme, quantized
from tests.quantization.conftest import node, range_of

COUNT, OUTLIER = 150, 12.0
either = pytest.mark.parametrize("signed", [False, True])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of two convolutions by one number per channel: "first" and "second"."""
    stored = {
        "w1": np.eye(3).reshape(3, 3, 1, 1), "b1": np.zeros(3),
        "w2": np.diag([0.5, 1, 2]).reshape(3, 3, 1, 1), "b2": np.array([0.1, -3, 7]),
    }  # fmt: skip
    nodes = [
        node("Conv", ["image", "w1", "b1"], "first"),
        node("Conv", ["first", "w2", "b2"], "second"),
        node("Neg", ["second"], "logits"),
    ]
    value = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 32, 32])
    end = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in stored.items()]
    graph = helper.make_graph(nodes, "layers", [value], [end], tensors)
    made = tmp_path_factory.mktemp("layers") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), made)
    return made


def normal(seed: int, count: int = COUNT) -> list[np.ndarray]:
    return [x[None].astype(np.float32) for x in np.random.default_rng(seed).standard_normal((count, 3, 32, 32))]


def with_outlier() -> list[np.ndarray]:
    images = normal(0)
    images[0][0, 1, 5, 5] = OUTLIER
    return images


def both(path: Path, images: list[np.ndarray], signed: bool, folder: Path) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return the int8 model with the range of all values, and with clipped ranges."""
    plain = quantized(path, Scheme(True, signed, True), images, folder / "ranges")
    before = plain.SerializeToString(deterministic=True)
    clipped = with_clipped_ranges(plain, onnx.load(path), images)
    assert plain.SerializeToString(deterministic=True) == before, "the passed model was changed"
    return plain, clipped


def squared_error(numbers: np.ndarray, low: float, high: float) -> float:
    """Return the mean squared error of `numbers` in 256 steps from `low` to `high`, one of them at zero."""
    steps = low + (high - low) / 255 * np.arange(256)
    places = np.rint((numbers.clip(low, high) - low) / (high - low) * 255).astype(int)
    return float(((steps[places] - numbers) ** 2).mean())


@either
def test_a_rare_value_is_cut_and_the_others_are_rounded_finer(path, signed, tmp_path):
    plain, clipped = both(path, with_outlier(), signed, tmp_path)
    assert range_of(plain, "first")[1] == pytest.approx(OUTLIER, rel=0.01)
    assert 4 < range_of(clipped, "first")[1] < 0.7 * OUTLIER
    assert range_of(clipped, "first")[0] == pytest.approx(range_of(plain, "first")[0], rel=0.3)
    assert range_of(clipped, "image") == range_of(plain, "image"), "the input lost values"
    numbers = np.concatenate(normal(1))
    assert squared_error(numbers, *range_of(clipped, "first")) < 0.5 * squared_error(numbers, *range_of(plain, "first"))


@either
def test_evenly_spread_values_keep_their_range(path, signed, tmp_path):
    images = [np.random.default_rng(seed).uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32) for seed in range(4)]
    plain, clipped = both(path, images, signed, tmp_path)
    assert range_of(clipped, "first") == range_of(plain, "first")


@either
def test_biases_keep_their_values_and_have_the_scale_of_input_and_weight(path, signed, tmp_path):
    plain, clipped = both(path, with_outlier(), signed, tmp_path)
    exact = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    scales = {}
    for model in (plain, clipped):
        stored = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer}
        makers = {name: one for one in model.graph.node for name in one.output}
        (layer,) = (one for one in model.graph.node if one.output[0] == "second")
        value, weight, bias = (stored[makers[name].input[1]] for name in layer.input)
        np.testing.assert_allclose(bias, value * weight, rtol=1e-6)
        restored = stored[makers[layer.input[2]].input[0]] * bias
        np.testing.assert_allclose(restored, exact["b2"], atol=float(bias.max()))
        scales[model is clipped] = bias
    assert (scales[True] < 0.8 * scales[False]).all()


def test_numbers_that_are_not_finite_do_not_count(path, tmp_path):
    images = normal(0, 4)
    plain = quantized(path, Scheme(True, False, True), images, tmp_path / "ranges")
    broken = [images[0] * np.nan, *images]
    assert with_clipped_ranges(plain, onnx.load(path), broken) == with_clipped_ranges(plain, onnx.load(path), images)
