"""Write the linear layers of transformers so that onnxruntime computes them in int8.

torch exports a linear layer on tokens (B, N, C) as MatMul and Add. onnxruntime fuses both to a float Gemm before it
looks for int8 operators, and then restores the weights in every call: three times the latency of float32. A Gemm on
rows (B N, C) that has its bias from the start becomes QGemm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tcs_edge.runtimes.onnx_file import read_onnx

ROWS = "_rows"


def read_for_int8(source: Path) -> onnx.ModelProto:
    """Read `source`, an fp32 export of tcs-edge, with its linear layers as Gemm; its outputs are the same."""
    return with_gemms(read_onnx(source))


def with_gemms(original: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a float32 model, with each product by a matrix and the bias behind it as a Gemm between two Reshapes.

    A Gemm has the name of its MatMul. Products of values of unknown shape stay as they are.
    """
    model = onnx.ModelProto()
    model.CopyFrom(original)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {value.name: [one.dim_value for one in value.type.tensor_type.shape.dim] for value in graph.value_info}
    sums = dict(_linear_layers(graph, tensors, shapes))
    replaced = {node.name for node in sums.values()}
    nodes: list[onnx.NodeProto] = []
    rowed: set[str] = set()
    for node in graph.node:
        if node.name in replaced:
            continue
        if node.name not in sums:
            nodes.append(node)
            continue
        value, rows, total = node.input[0], node.input[0] + ROWS, sums[node.name]
        bias = next(name for name in total.input if name in tensors)
        if rows not in rowed:  # several layers may read one value
            nodes.append(_reshape(graph, value, rows, [-1, tensors[node.input[1]].dims[0]]))
            rowed.add(rows)
        nodes.append(helper.make_node("Gemm", [rows, node.input[1], bias], [node.output[0] + ROWS], node.name))
        nodes.append(_reshape(graph, node.output[0] + ROWS, total.output[0], [-1, *shapes[node.output[0]][1:]]))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _linear_layers(
    graph: onnx.GraphProto, tensors: Mapping[str, TensorProto], shapes: Mapping[str, list[int]]
) -> Iterator[tuple[str, onnx.NodeProto]]:
    """Yield the name of each MatMul that a Gemm can replace, and the Add of its bias."""
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    sums = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    for node in graph.node:
        value = node.output[0]
        if node.op_type != "MatMul" or node.input[1] not in tensors or value not in sums or readers[value] != 1:
            continue
        weight, total = tensors[node.input[1]], sums[value]
        biases = [list(tensors[name].dims) for name in total.input if name in tensors]
        known = len(shapes.get(value, ())) > 2 and all(shapes[value][1:])
        if known and len(weight.dims) == 2 and biases == [[weight.dims[1]]]:
            yield node.name, total


def _reshape(graph: onnx.GraphProto, value: str, made: str, shape: list[int]) -> onnx.NodeProto:
    """Return a Reshape of `value` to `made`, and add its shape to the initializers."""
    constant = numpy_helper.from_array(np.array(shape, np.int64), f"{made}_shape")
    graph.initializer.append(constant)
    return helper.make_node("Reshape", [value, constant.name], [made], f"node_{made}")
