"""Biases of int8 layers: corrected for the mean error of the rounded weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from tcs_edge.quantization.bias import correct_biases, input_means
from tcs_edge.quantization.qdq import Scheme, int8_layers, quantized, with_float_layers

LAYERS = {  # operator, shape of the weight, attributes
    "Conv": ("Conv", (8, 6, 3, 3), {}),
    "Conv, grouped": ("Conv", (9, 2, 3, 3), {"group": 3}),
    "Conv, depthwise": ("Conv", (6, 1, 3, 3), {"group": 6}),
    "Gemm": ("Gemm", (6, 8), {}),
    "Gemm, transposed": ("Gemm", (8, 6), {"transB": 1, "alpha": 0.5}),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
per_channel_or_tensor = pytest.mark.parametrize("per_channel", [True, False])


def images(seed: int) -> list[np.ndarray]:
    """Return images whose channels have large and different means, as behind a ReLU."""
    rng = np.random.default_rng(seed)
    return [(rng.random((1, 6, 12, 12)) + np.arange(6).reshape(6, 1, 1)).astype(np.float32) for _ in range(8)]


def model_of(name: str) -> onnx.ModelProto:
    """Return a model of one layer, whose channels have weights of very different sizes."""
    kind, shape, attributes = LAYERS[name]
    rng = np.random.default_rng(0)
    out = shape[1] if name == "Gemm" else shape[0]
    weight = rng.standard_normal(shape) * np.logspace(0, 1.5, out).reshape(
        [-1 if length == out and axis == (1 if name == "Gemm" else 0) else 1 for axis, length in enumerate(shape)]
    )
    stored = {"w": weight, "b": rng.standard_normal(out)}
    given = "image" if kind == "Conv" else "flat"
    nodes = [
        helper.make_node(kind, [given, "w", "b"], ["made"], "layer", **attributes),
        helper.make_node("Neg", ["made"], ["logits"], "negative"),
    ]
    if kind == "Gemm":
        nodes[:0] = [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"], "pool"),
            helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 6, 12, 12])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values.astype(np.float32), key) for key, values in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def outputs(model: onnx.ModelProto, given: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image})[0] for image in given])


@every_layer
@per_channel_or_tensor
def test_the_mean_output_of_every_channel_is_kept(name, per_channel, tmp_path):
    original = model_of(name)
    onnx.save(original, tmp_path / "model.onnx")
    scheme = Scheme(per_channel, signed_activations=False, seven_bit_weights=True)
    int8 = quantized(tmp_path / "model.onnx", scheme, images(0), tmp_path / "ranges")
    corrected = correct_biases(int8, original, input_means(original, images(0)))

    def error(model: onnx.ModelProto) -> float:
        difference = outputs(model, images(1)) - outputs(original, images(1))
        return float(np.abs(difference.mean(axis=(0, *range(2, difference.ndim)))).max())

    assert error(corrected) < 0.5 * error(int8)


def test_means_are_those_of_the_channels(tmp_path):
    means = input_means(model_of("Conv"), images(0))
    assert list(means) == ["image"]
    np.testing.assert_allclose(means["image"], np.mean(images(0), axis=(0, 1, 3, 4)), rtol=1e-5)


@every_layer
def test_a_layer_that_returns_to_float_has_its_own_bias(name, tmp_path):
    original, given = model_of(name), images(0)
    onnx.save(original, tmp_path / "model.onnx")
    int8 = quantized(tmp_path / "model.onnx", Scheme(True, False, False), given, tmp_path / "ranges")
    corrected = correct_biases(int8, original, input_means(original, given))
    assert corrected.SerializeToString() != int8.SerializeToString()
    restored = with_float_layers(corrected, original, int8_layers(corrected))
    assert int8_layers(restored) == ()
    np.testing.assert_array_equal(outputs(restored, given), outputs(original, given))


def test_layers_without_a_bias_stay_as_they_are(tmp_path):
    original, given = model_of("Conv"), images(0)
    del original.graph.node[0].input[2]
    onnx.save(original, tmp_path / "model.onnx")
    int8 = quantized(tmp_path / "model.onnx", Scheme(True, False, False), given, tmp_path / "ranges")
    assert correct_biases(int8, original, input_means(original, given)) == int8
