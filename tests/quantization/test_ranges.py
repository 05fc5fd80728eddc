"""Ranges of values in front of activations: without the part that the activation does not distinguish."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from tcs_edge.quantization.qdq import Scheme, int8_layers, quantized, with_float_layers
from tcs_edge.quantization.sensitivity import noise_share
from tests.quantization.conftest import network, node, noise, range_of, runtime_operators

UNSIGNED, SIGNED = (Scheme(True, signed, False) for signed in (False, True))
IMAGES = [image[None] for image in noise(8)]


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


GELU = [
    node("Div", ["conv", "root"], "a"), node("Erf", ["a"], "b"), node("Add", ["b", "one"], "c"),
    node("Mul", ["conv", "c"], "d"), node("Mul", ["d", "half"], "act"),
]  # fmt: skip
# Activation, its constants, and the lowest number that the range of the convolution needs.
ACTIVATIONS = {
    "Relu": ([node("Relu", ["conv"], "act")], {}, 0),
    "Clip": ([node("Clip", ["conv", "low", "high"], "act")], {"low": number(0), "high": number(6)}, 0),
    "Clip without a minimum": ([node("Clip", ["conv", "", "high"], "act")], {"high": number(6)}, -math.inf),
    "HardSwish": ([node("HardSwish", ["conv"], "act")], {}, -3),
    "HardSigmoid and Mul": ([node("HardSigmoid", ["conv"], "gate", alpha=1 / 6),
                             node("Mul", ["gate", "conv"], "act")], {}, -3),
    "SiLU": ([node("Sigmoid", ["conv"], "gate"), node("Mul", ["conv", "gate"], "act")], {}, -8),
    "Gelu": ([node("Gelu", ["conv"], "act")], {}, -4),
    "Gelu by Erf": (GELU, {"root": number(math.sqrt(2)), "one": number(1), "half": number(0.5)}, -4),
    "LeakyRelu": ([node("LeakyRelu", ["conv"], "act", alpha=0.1)], {}, -math.inf),
}  # fmt: skip
every_activation = pytest.mark.parametrize("name", ACTIVATIONS)


def source(name: str, folder: Path) -> Path:
    return network(folder / "model.onnx", *ACTIVATIONS[name][:2])


def values_of(model: onnx.ModelProto, value: str) -> np.ndarray:
    """Return `value` on the calibration images, computed as the graph is written."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([value], {"image": image})[0] for image in IMAGES])


def bounds(original: Path, value: str) -> tuple[float, float]:
    """Return the smallest and the largest number of `value` on the calibration images."""
    values = values_of(onnx.load(original), value)
    return float(values.min()), float(values.max())


@every_activation
@pytest.mark.parametrize("scheme", [UNSIGNED, SIGNED])
def test_a_convolution_is_rounded_in_the_range_that_its_activation_distinguishes(name, scheme, tmp_path):
    path = source(name, tmp_path)
    low, high = range_of(quantized(path, scheme, IMAGES, tmp_path / "ranges"), "conv")
    least, most = bounds(path, "conv")
    assert least < -25
    assert low >= max(least, ACTIVATIONS[name][2]) - 0.2
    if name.startswith(("Relu", "Clip")):
        most = bounds(path, "act")[1]
    assert high == pytest.approx(most, rel=0.03), "numbers above zero are all distinguished"


@every_activation
def test_the_narrower_range_gives_less_noise_than_onnxruntime_alone(name, tmp_path):
    """Compare with `quantize_static(per_channel=True)`, which rounds more values."""
    rounded_act = "act_DequantizeLinear_Output"
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._images = iter(IMAGES)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._images, None)
            return None if image is None else {"image": image}

    path = source(name, tmp_path)
    quantize_static(path, tmp_path / "plain.onnx", Reader(), per_channel=True, activation_type=QuantType.QUInt8)
    expected = values_of(onnx.load(path), "act")
    ours = noise_share(expected, values_of(quantized(path, UNSIGNED, IMAGES, tmp_path / "ranges"), rounded_act))
    plain = noise_share(expected, values_of(onnx.load(tmp_path / "plain.onnx"), rounded_act))
    assert 0 < ours <= 1.02 * plain
    if name in ("HardSwish", "SiLU", "Gelu"):
        assert ours < 0.8 * plain


def test_a_value_that_others_read_keeps_its_range(tmp_path):
    activation = [node("HardSwish", ["conv"], "swished"), node("Add", ["swished", "conv"], "act")]
    path = network(tmp_path / "model.onnx", activation, {})
    scaled = [node("HardSwish", ["conv"], "swished"), node("Mul", ["conv", "channels"], "scaled"),
              node("Add", ["swished", "scaled"], "act")]  # fmt: skip
    other = network(tmp_path / "other.onnx", scaled, {"channels": np.ones((8, 1, 1), np.float32)})
    for one in (path, other):
        low, _ = range_of(quantized(one, UNSIGNED, IMAGES, tmp_path / f"{one.stem}.ranges"), "conv")
        assert low == pytest.approx(bounds(one, "conv")[0], rel=0.03)


@pytest.mark.parametrize("name", ["Relu", "Clip"])
def test_convolutions_activations_and_residual_sums_run_in_int8(name, tmp_path):
    path = source(name, tmp_path)
    model = quantized(path, UNSIGNED, IMAGES, tmp_path / "ranges")
    released = with_float_layers(model, onnx.load(path), ())
    operators = runtime_operators(released, tmp_path)
    assert operators.count("QLinearConv") == 3
    assert operators.count("QLinearAdd") == 1
    assert not {"Conv", "Add", "Relu", "Clip"} & set(operators)


def test_a_residual_sum_with_a_float_branch_is_not_rounded(tmp_path):
    path = source("Relu", tmp_path)
    original = onnx.load(path)
    model = quantized(path, UNSIGNED, IMAGES, tmp_path / "ranges")
    mixed = with_float_layers(model, original, ("second",))
    (add,) = (one for one in mixed.graph.node if one.op_type == "Add")
    assert add.input[1] == "branch"
    assert int8_layers(mixed) == ("first", "third", "head")
