"""Round sigmoids and their products, so that onnxruntime computes SiLU and gates between 8-bit numbers.

torch exports SiLU as x * Sigmoid(x), and the gates of squeeze-and-excite as x * Sigmoid(y). With sigmoid and product
in float, onnxruntime restores x twice and rounds the product again: a fifth of the latency of EfficientNet. Between
8-bit numbers, a sigmoid is a table of 256 entries.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Rounding(NamedTuple):
    """The QuantizeLinear of a value, and its DequantizeLinear."""

    quantize: onnx.NodeProto
    restore: onnx.NodeProto


def round_sigmoid_products(model: onnx.ModelProto) -> None:
    """Round each Sigmoid of a rounded value if it only multiplies rounded values; `model` changes in place.

    The sigmoid gets the range 0..1. A SiLU that has no range gets the one of its results. All nodes then read the
    rounded sigmoids and products.

    Args:
        model: in topological order, with one scale per activation.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    roundings = _roundings(graph)
    restored = {one.restore.output[0]: value for value, one in roundings.items()}
    outputs = {output.name for output in graph.output}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    changed: dict[str, Rounding] = {}
    for node in graph.node:
        products = readers[node.output[0]]
        values = {node.output[0], *(product.output[0] for product in products)}
        if node.op_type != "Sigmoid" or node.input[0] not in restored or not outputs.isdisjoint(values):
            continue
        factors = {name for product in products for name in product.input} - {node.output[0]}
        in_int8 = all(name in restored or name in roundings for name in factors)
        if not in_int8 or {product.op_type for product in products} != {"Mul"}:
            continue
        if factors != {node.input[0]} and not all(product.output[0] in roundings for product in products):
            continue
        source = roundings[restored[node.input[0]]]
        roundings[node.output[0]] = _rounding(graph, node.output[0], (0.0, 1.0), source, tensors)
        for product in products:
            value = product.output[0]
            if value not in roundings:
                roundings[value] = _rounding(graph, value, _silu_ends(source, tensors), source, tensors)
        changed |= {value: roundings[value] for value in values}
    _read_rounded(graph, changed)


def _roundings(graph: onnx.GraphProto) -> dict[str, Rounding]:
    """Return the rounding of each value that has one, by the value's name."""
    restoring = {node.input[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    return {
        node.input[0]: Rounding(node, restoring[node.output[0]])
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.output[0] in restoring
    }


def _silu_ends(source: Rounding, tensors: Mapping[str, TensorProto]) -> tuple[float, float]:
    """Return the smallest and the largest SiLU of the numbers that `source` restores."""
    scale, zero = (numpy_helper.to_array(tensors[name]) for name in source.quantize.input[1:3])
    limits = np.iinfo(zero.dtype)
    numbers = float(scale) * (np.arange(limits.min, limits.max + 1) - float(zero))
    results = numbers / (1 + np.exp(-numbers))
    return min(0.0, float(results.min())), max(0.0, float(results.max()))


def _rounding(
    graph: onnx.GraphProto,
    value: str,
    ends: tuple[float, float],
    like: Rounding,
    tensors: Mapping[str, TensorProto],
) -> Rounding:
    """Return the rounding of `value` between `ends` to numbers as in `like`; `graph` gets its scale and zero point."""
    kind = numpy_helper.to_array(tensors[like.quantize.input[2]]).dtype
    limits, (low, high) = np.iinfo(kind), ends
    # One step is for the zero point, which rounds away from the lower end.
    step = (high - low) / (limits.max - limits.min - (low < 0)) or 1.0
    zero = limits.min + math.ceil(-low / step)
    graph.initializer.append(numpy_helper.from_array(np.array(step, np.float32), f"{value}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(zero, kind), f"{value}_zero_point"))
    numbers, restored = f"{value}_QuantizeLinear_Output", f"{value}_DequantizeLinear_Output"
    grid = [f"{value}_scale", f"{value}_zero_point"]
    return Rounding(
        helper.make_node("QuantizeLinear", [value, *grid], [numbers], f"{value}_QuantizeLinear"),
        helper.make_node("DequantizeLinear", [numbers, *grid], [restored], f"{value}_DequantizeLinear"),
    )


def _read_rounded(graph: onnx.GraphProto, roundings: Mapping[str, Rounding]) -> None:
    """Put each rounding behind the node that makes its value, and let all other nodes read the restored value."""
    restored = {value: one.restore.output[0] for value, one in roundings.items()}
    own = {node.name for one in roundings.values() for node in one}
    nodes = []
    for node in graph.node:
        if node.name in own:
            continue
        node.input[:] = [restored.get(name, name) for name in node.input]
        nodes.append(node)
        nodes += [part for name in node.output if name in roundings for part in roundings[name]]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
