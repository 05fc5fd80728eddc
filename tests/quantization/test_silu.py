"""SiLU and gates between 8-bit numbers: computed in int8 by onnxruntime, and back in float with their layers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tcs_edge.quantization.qdq import Scheme, int8_layers, quantized, with_float_layers
from tcs_edge.quantization.sensitivity import noise_share, run_model
from tests.quantization.conftest import network, node, noise, runtime_operators

UNSIGNED, SIGNED = (Scheme(True, signed, False) for signed in (False, True))
IMAGES = [image[None] for image in noise(8)]
SILU = [node("Sigmoid", ["conv"], "sigmoid"), node("Mul", ["conv", "sigmoid"], "act")]
# squeeze-and-excite: the mean of the SiLU scales its channels
GATED = [
    node("Sigmoid", ["conv"], "sigmoid"), node("Mul", ["conv", "sigmoid"], "swished"),
    node("ReduceMean", ["swished", "axes"], "mean"),
    node("Conv", ["mean", "wg", "b2"], "squeezed"), node("Sigmoid", ["squeezed"], "gate"),
    node("Mul", ["swished", "gate"], "act"),
]  # fmt: skip
CONSTANTS = {
    "axes": np.array([2, 3], np.int64),
    "wg": np.random.default_rng(2).standard_normal((8, 8, 1, 1)).astype(np.float32),
}
either = pytest.mark.parametrize(("activation", "constants", "count"), [(SILU, {}, 1), (GATED, CONSTANTS, 2)])


def rounded_values(model: onnx.ModelProto) -> set[str]:
    return {one.input[0] for one in model.graph.node if one.op_type == "QuantizeLinear"}


@either
@pytest.mark.parametrize("scheme", [UNSIGNED, SIGNED])
def test_silu_and_gates_are_computed_between_8_bit_numbers(activation, constants, count, scheme, tmp_path):
    path = network(tmp_path / "model.onnx", activation, constants)
    model = with_float_layers(quantized(path, scheme, IMAGES, tmp_path / "ranges"), onnx.load(path), ())
    onnx.checker.check_model(model, full_check=True)
    assert {"sigmoid", "act"} <= rounded_values(model)
    if scheme == UNSIGNED:  # x86 computes no layer with signed activations in int8
        operators = runtime_operators(model, tmp_path)
        assert operators.count("QLinearSigmoid") == operators.count("QLinearMul") == count
        assert not {"Sigmoid", "Mul", "QuickGelu"} & set(operators)
    expected = run_model(onnx.load(path), np.concatenate(IMAGES))
    assert 0 < noise_share(expected, run_model(model, np.concatenate(IMAGES))) < 1e-3


@either
def test_a_silu_returns_to_float_with_its_layer(activation, constants, count, tmp_path):
    path = network(tmp_path / "model.onnx", activation, constants)
    original, model = onnx.load(path), quantized(path, UNSIGNED, IMAGES, tmp_path / "ranges")
    mixed = with_float_layers(model, original, ("first",))
    assert {"sigmoid", "conv"}.isdisjoint(rounded_values(mixed))
    plain = with_float_layers(model, original, int8_layers(model))
    np.testing.assert_array_equal(run_model(plain, IMAGES[0]), run_model(original, IMAGES[0]))


def test_a_product_with_a_value_in_float_stays_in_float(tmp_path):
    activation = [node("Sigmoid", ["conv"], "sigmoid"), node("Tanh", ["conv"], "other"),
                  node("Mul", ["other", "sigmoid"], "act")]  # fmt: skip
    path = network(tmp_path / "model.onnx", activation, {})
    assert "sigmoid" not in rounded_values(quantized(path, UNSIGNED, IMAGES, tmp_path / "ranges"))


def test_a_product_by_a_stored_number_does_not_count_as_int8(tmp_path):
    """The runtime multiplies it in float, so a sum behind it must not read rounded numbers."""
    activation = [node("Mul", ["conv", "channels"], "act")]
    path = network(tmp_path / "model.onnx", activation, {"channels": np.ones((8, 1, 1), np.float32)})
    released = with_float_layers(quantized(path, UNSIGNED, IMAGES, tmp_path / "ranges"), onnx.load(path), ())
    (add,) = (one for one in released.graph.node if one.op_type == "Add")
    assert add.input[0] == "act"


def test_the_rounded_silu_reaches_from_its_lowest_to_its_highest_result(tmp_path):
    path = network(tmp_path / "model.onnx", GATED, CONSTANTS)
    model = quantized(path, UNSIGNED, IMAGES, tmp_path / "ranges")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    ends = {}
    for one in model.graph.node:
        if one.op_type == "QuantizeLinear":
            step, zero = (float(stored[name]) for name in one.input[1:3])
            ends[one.input[0]] = step * (0 - zero), step * (255 - zero)
    assert ends["sigmoid"] == ends["gate"] == pytest.approx((0, 1))
    high = ends["conv"][1]
    assert ends["swished"][0] == pytest.approx(-0.2785, abs=2 * high / 255)
    assert ends["swished"][1] == pytest.approx(high / (1 + np.exp(-high)), rel=0.01)
