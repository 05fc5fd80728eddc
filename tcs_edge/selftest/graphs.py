"""Edits of an ONNX file: what a wrong exporter, a wrong script or a dying disk would leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Edit = Callable[[onnx.ModelProto], None]
BEYOND_PHOTOGRAPHS = 4.0  # in standard deviations from the mean


def edit_onnx(path: Path, edit: Edit) -> None:
    """Load the file, edit it, write it back."""
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)


def flip_bit(bit: int) -> Edit:
    """Flip one bit (0 is the lowest of the mantissa, 30 the highest of the exponent) of the largest weight."""

    def edit(model: onnx.ModelProto) -> None:
        tensor, values = _largest_weight(model)
        bits = values.reshape(-1).view(np.uint32)
        bits[np.abs(values).argmax()] ^= np.uint32(1 << bit)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return edit


def scale_layer(factor: float) -> Edit:
    """Multiply all weights of one layer, the one with most of them."""

    def edit(model: onnx.ModelProto) -> None:
        tensor, values = _largest_weight(model)
        tensor.CopyFrom(numpy_helper.from_array(values * np.float32(factor), tensor.name))

    return edit


def swap_outputs(model: onnx.ModelProto) -> None:
    """Exchange the first two logits."""
    count = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    _behind_output(model, "Gather", {"axis": 1}, np.array([1, 0, *range(2, count)], dtype=np.int64))


def swap_labels(model: onnx.ModelProto) -> None:
    """Exchange the first two class names in the metadata."""
    for pair in model.metadata_props:
        if pair.key == "labels":
            first, second, *rest = json.loads(pair.value)
            pair.value = json.dumps([second, first, *rest])


def reverse_channels(model: onnx.ModelProto) -> None:
    """Take the picture as blue, green, red."""
    _before_input(model, "Gather", {"axis": 1}, np.array([2, 1, 0], dtype=np.int64))


def normalise_again(mean: Iterable[float], std: Iterable[float]) -> Edit:
    """Subtract the mean and divide by the standard deviation inside the graph too."""

    def edit(model: onnx.ModelProto) -> None:
        shape = (1, 3, 1, 1)
        _before_input(model, "Div", {}, np.array(std, dtype=np.float32).reshape(shape))
        _before_input(model, "Sub", {}, np.array(mean, dtype=np.float32).reshape(shape))

    return edit


def transpose_input(model: onnx.ModelProto) -> None:
    """Exchange rows and columns of the picture."""
    _before_input(model, "Transpose", {"perm": [0, 1, 3, 2]})


def clip_input(model: onnx.ModelProto) -> None:
    """Cut off what no photograph reaches, as a quantizer or a careless script would."""
    _before_input(
        model, "Clip", {}, np.array(-BEYOND_PHOTOGRAPHS, np.float32), np.array(BEYOND_PHOTOGRAPHS, np.float32)
    )


def set_opset(version: int) -> Edit:
    """Claim another version of the standard operators."""

    def edit(model: onnx.ModelProto) -> None:
        for entry in model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = version

    return edit


def bake_batch(model: onnx.ModelProto) -> None:
    """Say that any batch is welcome, with a batch of 1 baked into the graph."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    _behind_output(model, "Reshape", {}, np.array([1, -1], dtype=np.int64))


def double_a_scale(model: onnx.ModelProto) -> None:
    """Make the weights of one quantized layer, the one with most of them, twice as large."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights]
    node = max(nodes, key=lambda node: _weight_count(weights[node.input[0]]))
    scale = weights[node.input[1]]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), scale.name))


def use_stale_weights(path: Path) -> None:
    """Move the weights into a file of their own, and put those of an earlier training there."""
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=1024)
    data = path.with_name("model.data")
    older = np.frombuffer(data.read_bytes(), dtype=np.float32) * np.float32(0.9)
    data.write_bytes(older.tobytes())


def _largest_weight(model: onnx.ModelProto) -> tuple[onnx.TensorProto, np.ndarray]:
    """The float32 initializer with two or more axes and the most weights, and a copy of its values."""
    tensors = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1]
    tensor = max(tensors, key=_weight_count)
    return tensor, numpy_helper.to_array(tensor).copy()


def _weight_count(tensor: onnx.TensorProto) -> int:
    """How many weights are not zero: an untrained residual branch may be nothing but zeros."""
    return int(np.count_nonzero(numpy_helper.to_array(tensor)))


def _before_input(model: onnx.ModelProto, kind: str, attributes: dict[str, Any], *constants: np.ndarray) -> None:
    """Put a node between the picture and all that reads it."""
    graph = model.graph
    name, changed = graph.input[0].name, f"{graph.input[0].name}_{kind.lower()}"
    for node in graph.node:
        node.input[:] = [changed if source == name else source for source in node.input]
    graph.node.insert(0, _node(graph, kind, name, changed, attributes, constants))


def _behind_output(model: onnx.ModelProto, kind: str, attributes: dict[str, Any], constant: np.ndarray) -> None:
    """Put a node between the last layer and the output."""
    graph = model.graph
    name, plain = graph.output[0].name, f"{graph.output[0].name}_plain"
    for node in graph.node:
        node.output[:] = [plain if made == name else made for made in node.output]
    graph.node.append(_node(graph, kind, plain, name, attributes, (constant,)))


def _node(
    graph: onnx.GraphProto,
    kind: str,
    source: str,
    made: str,
    attributes: dict[str, Any],
    constants: Sequence[np.ndarray],
) -> onnx.NodeProto:
    inputs = [source]
    for constant in constants:
        inputs.append(f"{made}_constant_{len(inputs)}")
        graph.initializer.append(numpy_helper.from_array(constant, inputs[-1]))
    return helper.make_node(kind, inputs, [made], **attributes)
