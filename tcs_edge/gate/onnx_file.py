"""What an .onnx file tells about itself: its size with external data, its weights, its memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from tcs_edge.errors import DataError, reason_of
from tcs_edge.export.memory import peak_memory_mb
from tcs_edge.gate.measures import Measure

Type = onnx.TensorProto.DataType
NOT_WEIGHTS = {Type.INT64, Type.BOOL, Type.STRING}  # shapes, axes and switches
SHORT = {"float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64", "uint8": "int8"}


def onnx_measures(path: Path) -> tuple[tuple[Measure, ...], str]:
    """Size, parameters and memory of an ONNX file, and the type that most of its weights have.

    Parameters are the elements of all weights, wherever the graph keeps them. An exporter folds batch
    norms, so there are a few fewer than in the network that was trained.

    Raises:
        DataError: no ONNX file, or external data that lies elsewhere.
    """
    model = _load(path)
    tensors = list(_tensors(model))
    elements: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.data_type not in NOT_WEIGHTS:
            elements[Type.Name(tensor.data_type).lower()] += math.prod(tensor.dims)
    common = elements.most_common(1)[0][0] if elements else "none"
    memory = peak_memory_mb(path)
    unknown = "" if memory is not None else "a shape in the graph is not fixed"
    measures = (
        *_sizes(path, tensors),
        Measure("params_m", elements.total() / 1e6, detail="counted in the file"),
        Measure("peak_memory_mb", memory, detail=unknown or "weights and live activations, without the runtime itself"),
    )
    return measures, SHORT.get(common, common)


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise DataError(f"{path} cannot be read as ONNX: {reason_of(error)}. Export it again.") from None
    if not model.ir_version or not model.graph.node:
        raise DataError(f"{path} is no ONNX model: there is no graph in it. Export it again.")
    return model


def _sizes(path: Path, tensors: list[onnx.TensorProto]) -> Iterator[Measure]:
    files = [path, *sorted({_external(path, tensor) for tensor in tensors if _is_external(tensor)})]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        yield Measure("size_mb", None, detail=f"its data file {missing[0]} is missing")
        return
    yield Measure("size_mb", sum(file.stat().st_size for file in files) / 1e6, detail=f"{len(files)} files")
    for file in files:
        yield Measure("file_mb", file.stat().st_size / 1e6, file.relative_to(path.parent).as_posix())


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _external(path: Path, tensor: onnx.TensorProto) -> Path:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    file = path.parent / location
    if not location or not file.resolve().is_relative_to(path.parent.resolve()):
        raise DataError(f"{path}: external data must lie beside the model, not at {location!r}.")
    return file


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in the model: initialisers, constants, and those of inner graphs and functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from (sparse.values for sparse in graph.sparse_initializer)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: list[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor.values
            yield from attribute.tensors
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graph_tensors(graph)
