"""Measure an .onnx file: its size with external data, its weights, its memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from tcs_edge.export.memory import estimated_peak_memory_mb
from tcs_edge.gate.measures import Measure, ModelFile, model_sizes, parameters, with_indices
from tcs_edge.gate.onnx_graph import graph_problem
from tcs_edge.gate.onnx_tensors import Type, foreign_problem, tensors_problem, type_name
from tcs_edge.runtimes.onnx_file import (
    all_graphs,
    all_nodes,
    all_sparse_tensors,
    all_tensors,
    external_files,
    read_onnx,
)

INDICES = {"int64", "uint64", "bool", "string"}  # shapes, axes, switches and names, unless they are many
STANDARD = ("", "ai.onnx")
MOST_STRUCTURAL = 64  # whole numbers, or bytes by four, of an attribute that describes an operator
SHORT = {"float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64", "uint8": "int8"}


def onnx_measures(path: Path) -> ModelFile:
    """Measure size, parameters and memory of an ONNX file.

    Parameters are the elements of all tensors that a node can read: initializers, used or not, and constants.
    Sparse tensors count with their stored values. Whole numbers of 64 bits, switches and texts count if all of them
    together have INDEX_ELEMENTS elements or more. An exporter folds batch norms, so a file has slightly fewer
    parameters than the trained network.

    A number is None if a tensor contradicts its bytes, so that no limit on it passes.

    Raises:
        DataError: not an ONNX file, or external data outside its folder.
    """
    model = read_onnx(path)
    problem = tensors_problem(path, model)
    elements = Counter[str]() if problem else _elements(model)
    common = elements.most_common(1)[0][0] if elements else "none"
    measures = (
        *_sizes(path, external_files(path, model)),
        parameters(elements.total(), problem or foreign_problem(model)),
        _peak_memory(path, model, problem),
    )
    return ModelFile(measures, SHORT.get(common, common), problem, "" if problem else graph_problem(path, model))


def _elements(model: onnx.ModelProto) -> Counter[str]:
    """Count the parameters per type."""
    elements: Counter[str] = Counter()
    for tensor in all_tensors(model):
        texts = _text_elements(tensor.string_data) if tensor.data_type == Type.STRING else 0
        elements[type_name(tensor.data_type)] += texts or math.prod(tensor.dims)
    for node in all_nodes(model):
        for attribute in node.attribute:
            elements += _listed(attribute, structural=node.domain in STANDARD and node.op_type != "Constant")
    for function in model.functions:
        for attribute in function.attribute_proto:
            elements += _listed(attribute, structural=False)
    return with_indices(elements, INDICES)


def _listed(attribute: onnx.AttributeProto, structural: bool) -> Counter[str]:
    """Count the numbers and texts of an attribute that are not in a tensor.

    Args:
        structural: a few whole numbers or a short text are axes, paddings or a mode, and no node can read them.
    """
    whole, texts = len(attribute.ints), _text_elements(attribute.strings)
    if attribute.type == onnx.AttributeProto.INT:
        whole += 1
    if attribute.s:
        texts += _text_elements([attribute.s])
    if structural and max(whole, texts) <= MOST_STRUCTURAL:
        whole = texts = 0
    real = len(attribute.floats) + (attribute.type == onnx.AttributeProto.FLOAT and not structural)
    return Counter({"float": real, "int64": whole, "string": texts})


def _text_elements(texts: Sequence[bytes]) -> int:
    """Return the numbers that texts can hold: one each, and one in every 4 bytes."""
    return sum(max(1, len(text) // 4) for text in texts)


def _peak_memory(path: Path, model: onnx.ModelProto, problem: str) -> Measure:
    if reason := problem or _memory_problem(model):
        return Measure("peak_memory_mb", None, detail=reason)
    memory = estimated_peak_memory_mb(path)
    unknown = "" if memory is not None else "the graph has a shape that is not fixed, or too large"
    return Measure(
        "peak_memory_mb", memory, detail=unknown or "weights and live activations, without the runtime itself"
    )


def _memory_problem(model: onnx.ModelProto) -> str:
    """Return the first reason why the estimate of the memory would be too small; empty without one."""
    if sum(1 for _ in all_graphs(model)) > 1 or model.functions:
        return "the graph has inner graphs or functions, whose activations are not counted"
    if any(True for _ in all_sparse_tensors(model)):
        return "the graph has sparse tensors, whose expanded size is not counted"
    values = (*model.graph.input, *model.graph.output)
    if any(axis.HasField("dim_value") and axis.dim_value == 0 for one in values for axis in _axes(one)):
        return "an input or an output of the graph has no elements"
    try:
        # The estimate relies on the shapes in the file. A strict check compares them with the operators.
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError):
        return "the shapes in the file contradict its operators"
    return ""


def _axes(value: onnx.ValueInfoProto) -> Sequence[onnx.TensorShapeProto.Dimension]:
    return list(value.type.tensor_type.shape.dim)


def _sizes(path: Path, external: list[Path]) -> Iterator[Measure]:
    files = list(dict.fromkeys((path, *external)))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        return model_sizes({}, f"its data file {missing[0]} is missing")
    return model_sizes({"": sum(file.stat().st_size for file in files)})
