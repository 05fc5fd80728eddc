"""Simulation of float16 or bfloat16 arithmetic on a CPU that lacks it.

ONNX Runtime computes the graph with every weight, and every value between two operations, rounded to that type.
Sums inside an operation stay float32. A processor that adds in float16 loses more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import onnx
from onnx import TensorProto, helper

from tcs_edge.runtimes.onnx_file import read_onnx
from tcs_edge.runtimes.onnxruntime import OrtRunner

Arithmetic = Literal["f16", "bf16"]
TYPES: dict[Arithmetic, int] = {"f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
SHORT, ROUNDED, EXACT = "_short", "_rounded", "_exact"


def open_rounding(path: Path, arithmetic: Arithmetic, name: str, threads: int = 1) -> OrtRunner:
    """Open a runner called `name` that computes the float32 ONNX file `path` in that arithmetic.

    Raises:
        DataError: the file is missing, truncated, or not an image classifier.
    """
    model = with_rounding(read_onnx(path), arithmetic)
    with TemporaryDirectory() as folder:
        rounded = Path(folder) / path.name
        onnx.save(model, rounded)
        runner = OrtRunner(rounded, threads)
    runner.name, runner.precision = name, arithmetic
    return runner


def with_rounding(model: onnx.ModelProto, arithmetic: Arithmetic) -> onnx.ModelProto:
    """Return a copy of `model` that rounds every float32 value to the shorter type before its use."""
    copy = onnx.shape_inference.infer_shapes(model)
    graph, floats = copy.graph, _float_values(copy.graph)
    ends = {output.name for output in graph.output}
    sources = [value.name for value in (*graph.initializer, *graph.input) if value.name in floats]
    nodes = [cast for name in sources for cast in _casts(name, name + ROUNDED, arithmetic)]
    for node in graph.node:
        # An output of the graph that a node reads is rounded under its own name.
        node.input[:] = [name + ROUNDED if name in floats - ends else name for name in node.input]
        made = [name for name in node.output if name in floats]
        node.output[:] = [name + EXACT if name in ends else name for name in node.output]
        nodes.append(node)
        for name in made:
            pair = (name + EXACT, name) if name in ends else (name, name + ROUNDED)
            nodes += _casts(*pair, arithmetic)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
    return copy


def _float_values(graph: onnx.GraphProto) -> set[str]:
    values = (*graph.input, *graph.value_info, *graph.output)
    typed = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return typed | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _casts(name: str, result: str, arithmetic: Arithmetic) -> Iterator[onnx.NodeProto]:
    yield helper.make_node("Cast", [name], [name + SHORT], to=TYPES[arithmetic])
    yield helper.make_node("Cast", [name + SHORT], [result], to=TensorProto.FLOAT)
