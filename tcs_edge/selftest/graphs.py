"""Edit ONNX files like a faulty exporter, a faulty script or a damaged disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Edit = Callable[[onnx.ModelProto], None]
EMBEDDING = 1  # position among the outputs of our exports
BEYOND_PHOTOGRAPHS = 4.0  # in standard deviations from the mean


def edit_onnx(path: Path, edit: Edit) -> None:
    """Load the file, edit it and write it back."""
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)


def flip_bit(bit: int) -> Edit:
    """Flip one bit of the largest weight: 0 is the lowest of the mantissa, 30 the highest of the exponent."""

    def edit(model: onnx.ModelProto) -> None:
        tensor, values = _largest_weight(model)
        bits = values.reshape(-1).view(np.uint32)
        bits[np.abs(values).argmax()] ^= np.uint32(1 << bit)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return edit


def scale_half(values: np.ndarray, factor: float) -> None:
    """Multiply the first half of a layer's weights in place; a layer norm behind it would undo a factor on all."""
    flat = values.reshape(-1)
    flat[: flat.size // 2] *= np.float32(factor)


def scale_layer(factor: float) -> Edit:
    """Multiply half of the weights of the layer with the most weights."""

    def edit(model: onnx.ModelProto) -> None:
        tensor, values = _largest_weight(model)
        scale_half(values, factor)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return edit


def swap_outputs(model: onnx.ModelProto) -> None:
    """Swap the first two logits."""
    count = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    _behind_output(model, "Gather", {"axis": 1}, np.array([1, 0, *range(2, count)], dtype=np.int64))


def swap_labels(model: onnx.ModelProto) -> None:
    """Swap the first two class names in the metadata."""
    for pair in model.metadata_props:
        if pair.key == "labels":
            first, second, *rest = json.loads(pair.value)
            pair.value = json.dumps([second, first, *rest])


def swap_coordinates(model: onnx.ModelProto) -> None:
    """Swap the first two values of the embedding."""
    count = model.graph.output[EMBEDDING].type.tensor_type.shape.dim[1].dim_value
    order = np.array([1, 0, *range(2, count)], dtype=np.int64)
    _behind_output(model, "Gather", {"axis": 1}, order, EMBEDDING)


def scale_coordinate(factor: float) -> Edit:
    """Multiply the first value of the embedding."""

    def edit(model: onnx.ModelProto) -> None:
        count = model.graph.output[EMBEDDING].type.tensor_type.shape.dim[1].dim_value
        scales = np.array([factor, *[1] * (count - 1)], dtype=np.float32)
        _behind_output(model, "Mul", {}, scales, EMBEDDING)

    return edit


def cut_embedding(model: onnx.ModelProto) -> None:
    """Replace values below 0 by 0, as with an activation too many."""
    _behind_output(model, "Relu", {}, None, EMBEDDING)


def spoil_embedding(model: onnx.ModelProto) -> None:
    """Make the embedding NaN, as a damaged weight does."""
    _behind_output(model, "Mul", {}, np.array(np.nan, dtype=np.float32), EMBEDDING)


def drop_embedding(model: onnx.ModelProto) -> None:
    """Leave the embedding out, as an exporter of one output does."""
    del model.graph.output[EMBEDDING]


def exchange_outputs(model: onnx.ModelProto) -> None:
    """Exchange the names of logits and embedding."""
    logits, embedding = (output.name for output in model.graph.output)
    other = {logits: embedding, embedding: logits}
    for node in model.graph.node:
        node.input[:] = [other.get(name, name) for name in node.input]
        node.output[:] = [other.get(name, name) for name in node.output]
    for output in model.graph.output:
        output.name = other[output.name]


def reverse_channels(model: onnx.ModelProto) -> None:
    """Interpret the channels as blue, green, red."""
    _before_input(model, "Gather", {"axis": 1}, np.array([2, 1, 0], dtype=np.int64))


def normalize_again(mean: Iterable[float], std: Iterable[float]) -> Edit:
    """Normalize a second time, inside the graph."""

    def edit(model: onnx.ModelProto) -> None:
        shape = (1, 3, 1, 1)
        _before_input(model, "Div", {}, np.array(std, dtype=np.float32).reshape(shape))
        _before_input(model, "Sub", {}, np.array(mean, dtype=np.float32).reshape(shape))

    return edit


def transpose_input(model: onnx.ModelProto) -> None:
    """Swap rows and columns of the image."""
    _before_input(model, "Transpose", {"perm": [0, 1, 3, 2]})


def clip_input(model: onnx.ModelProto) -> None:
    """Clip the input at four standard deviations, beyond the values of photographs."""
    _before_input(
        model, "Clip", {}, np.array(-BEYOND_PHOTOGRAPHS, np.float32), np.array(BEYOND_PHOTOGRAPHS, np.float32)
    )


def set_opset(version: int) -> Edit:
    """Declare another version of the standard operators."""

    def edit(model: onnx.ModelProto) -> None:
        for entry in model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = version

    return edit


def bake_batch(model: onnx.ModelProto) -> None:
    """Declare a dynamic batch, with a batch of 1 fixed in the graph."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    _behind_output(model, "Reshape", {}, np.array([1, -1], dtype=np.int64))


def double_a_scale(model: onnx.ModelProto) -> None:
    """Double the scale of the quantized layer with the most weights."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights]
    node = max(nodes, key=lambda node: _weight_count(weights[node.input[0]]))
    scale = weights[node.input[1]]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), scale.name))


def use_stale_weights(path: Path) -> None:
    """Move the weights to external data, and replace them by weights of an earlier training."""
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=1024)
    data = path.with_name("model.data")
    older = np.frombuffer(data.read_bytes(), dtype=np.float32) * np.float32(0.9)
    data.write_bytes(older.tobytes())


def _largest_weight(model: onnx.ModelProto) -> tuple[onnx.TensorProto, np.ndarray]:
    """Return the float32 initializer with two or more axes and the most weights, and a copy of its values."""
    tensors = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1]
    tensor = max(tensors, key=_weight_count)
    return tensor, numpy_helper.to_array(tensor).copy()


def _weight_count(tensor: onnx.TensorProto) -> int:
    """Count the weights that are not zero, because an untrained residual branch may be all zeros."""
    return int(np.count_nonzero(numpy_helper.to_array(tensor)))


def _before_input(model: onnx.ModelProto, kind: str, attributes: dict[str, Any], *constants: np.ndarray) -> None:
    """Insert a node between the input and its readers."""
    graph = model.graph
    name, changed = graph.input[0].name, f"{graph.input[0].name}_{kind.lower()}"
    for node in graph.node:
        node.input[:] = [changed if source == name else source for source in node.input]
    graph.node.insert(0, _node(graph, kind, name, changed, attributes, constants))


def _behind_output(
    model: onnx.ModelProto, kind: str, attributes: dict[str, Any], constant: np.ndarray | None, output: int = 0
) -> None:
    """Insert a node between the last layer and an output."""
    graph = model.graph
    name = graph.output[output].name
    plain, constants = f"{name}_plain", () if constant is None else (constant,)
    for node in graph.node:
        node.input[:] = [plain if read == name else read for read in node.input]
        node.output[:] = [plain if made == name else made for made in node.output]
    graph.node.append(_node(graph, kind, plain, name, attributes, constants))


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
