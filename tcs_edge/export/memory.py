"""Estimate the memory of an exported model for one image, from its graph alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from tcs_edge.errors import DataError

MOST_BYTES = 2**63  # no memory has an address beyond it


def estimated_peak_memory_mb(path: Path) -> float | None:
    """Return the bytes of the weights plus the largest sum of live activations, in 10^6.

    An activation lives from the node that makes it to the last node that reads it, with nodes in file order.
    The estimate excludes the memory that a runtime adds (code, scratch space) or saves (fused nodes). It is None
    if a shape is not fixed, as in a model with a dynamic batch, if a type is unknown, or from `MOST_BYTES` on.

    Raises:
        DataError: not an ONNX file.
    """
    try:
        # Shapes do not depend on the values of external weights.
        model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
    except (OSError, DecodeError, ValueError, onnx.shape_inference.InferenceError) as error:
        raise DataError(f"{path} cannot be read as ONNX: {error}. Export it again.") from None
    graph = model.graph
    try:
        weights = {tensor.name: _bytes(tensor.data_type, tensor.dims) for tensor in graph.initializer}
        sizes = _activation_bytes(graph)
    except KeyError:
        return None
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    needed = {name for node in nodes for name in node.output if name}
    constants = {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    if any(sizes.get(name) is None for name in needed - constants):
        return None
    live = {
        name: size
        for name, size in sizes.items()
        if size is not None and name not in weights | dict.fromkeys(constants)
    }
    fixed = sum(weights.values()) + sum(sizes.get(name) or 0 for name in constants)
    most = fixed + _most_alive(graph, nodes, live)
    return most / 1e6 if most < MOST_BYTES else None


def _activation_bytes(graph: onnx.GraphProto) -> dict[str, int | None]:
    """Return the bytes of every value of the graph, None for a shape that is not fixed."""
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: _value_bytes(value.type) for value in values}


def _value_bytes(kind: onnx.TypeProto) -> int | None:
    tensor = kind.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        return None
    if any(not axis.HasField("dim_value") or axis.dim_value < 0 for axis in tensor.shape.dim):
        return None
    return _bytes(tensor.elem_type, [axis.dim_value for axis in tensor.shape.dim])


def _bytes(data_type: int, dims: Iterable[int]) -> int:
    return math.prod(dims) * _item_bytes(data_type)


def _item_bytes(data_type: int) -> int:
    """Return the bytes of one element.

    Raises:
        KeyError: the type is unknown, such as a newer one.
    """
    return int(helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _most_alive(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], sizes: dict[str, int]) -> int:
    """Return the largest sum of bytes of values that are live at the same node."""
    last_use = {name: index for index, node in enumerate(nodes) for name in (*node.output, *node.input)}
    last_use |= {value.name: len(nodes) for value in graph.output}
    ends: dict[int, list[str]] = defaultdict(list)
    alive: set[str] = set()
    most = total = 0
    made = [[value.name for value in graph.input], *(node.output for node in nodes)]
    for index, names in enumerate(made, start=-1):
        for name in {name for name in names if name in sizes} - alive:
            alive.add(name)
            total += sizes[name]
            ends[max(last_use.get(name, 0), index, 0)].append(name)
        most = max(most, total) if index >= 0 else 0
        for name in ends.pop(index, ()):
            alive.remove(name)
            total -= sizes[name]
    return most
