"""Fixtures: the tiny model in int8, made once per session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

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


def network(path: Path, activation: list[onnx.NodeProto], constants: dict[str, np.ndarray], opset: int = 20) -> Path:
    """Write convolution -> `activation` ("conv" -> "act") -> convolution -> sum with "act" -> classifier.

    The first convolution has outputs far below zero, which the usual activations do not distinguish.
    """
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((8, 3, 3, 3)), "b1": np.linspace(-20, 2, 8),
        "w2": rng.standard_normal((8, 8, 3, 3)) / 8,
        "b2": rng.standard_normal(8), "w3": rng.standard_normal((4, 8)) / 3, "b3": np.zeros(4),
    }  # fmt: skip
    stored = {name: values.astype(np.float32) for name, values in weights.items()} | constants
    nodes = [
        onnx.helper.make_node("Conv", ["image", "w1", "b1"], ["conv"], "first", pads=[1, 1, 1, 1]),
        *activation,
        onnx.helper.make_node("Conv", ["act", "w2", "b2"], ["branch"], "second", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Add", ["act", "branch"], ["sum"], "add"),
        onnx.helper.make_node("Relu", ["sum"], ["positive"], "relu"),
        onnx.helper.make_node("Conv", ["positive", "w2", "b2"], ["last"], "third", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("GlobalAveragePool", ["last"], ["pooled"], "pool"),
        onnx.helper.make_node("Flatten", ["pooled"], ["features"], "flatten"),
        onnx.helper.make_node("Gemm", ["features", "w3", "b3"], ["logits"], "head", transB=1),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "network",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 32, 32])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def node(kind: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], f"{kind}_{output}", **attributes)


def range_of(model: onnx.ModelProto, value: str) -> tuple[float, float]:
    """Return the ends of the range that `value` is rounded in."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (quantizer,) = (one for one in model.graph.node if one.op_type == "QuantizeLinear" and one.input[0] == value)
    step, zero = stored[quantizer.input[1]].item(), stored[quantizer.input[2]]
    limits = np.iinfo(zero.dtype)
    return step * (limits.min - int(zero)), step * (limits.max - int(zero))


def runtime_operators(model: onnx.ModelProto, folder: Path) -> list[str]:
    """Return the operators of the graph that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [one.op_type for one in onnx.load(folder / "optimized.onnx").graph.node]
