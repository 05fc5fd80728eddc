"""Measure an .onnx file: its size with external data, its weights, its memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx

from tcs_edge.export.memory import estimated_peak_memory_mb
from tcs_edge.gate.measures import INDEX_ELEMENTS, Measure, ModelFile, model_sizes, parameters
from tcs_edge.gate.onnx_tensors import Type, tensors_problem
from tcs_edge.runtimes.onnx_file import all_attributes, all_graphs, all_tensors, external_files, read_onnx

INDICES = {Type.INT64, Type.UINT64, Type.BOOL}  # shapes, axes and switches, unless they are large
SHORT = {"float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64", "uint8": "int8"}


def onnx_measures(path: Path) -> ModelFile:
    """Measure size, parameters and memory of an ONNX file.

    Parameters are the elements of all tensors that a node can read: initializers, used or not, and constants.
    Sparse tensors count with their stored values. Whole numbers of 64 bits and switches count from
    INDEX_ELEMENTS elements on. An exporter folds batch norms, so a file has slightly fewer parameters than the
    trained network.

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
        parameters(elements.total(), problem),
        _peak_memory(path, model, problem),
    )
    return ModelFile(measures, SHORT.get(common, common), problem)


def _elements(model: onnx.ModelProto) -> Counter[str]:
    """Count the parameters per type."""
    elements: Counter[str] = Counter()
    for tensor in all_tensors(model):
        count = math.prod(tensor.dims)
        if tensor.data_type != Type.STRING and (tensor.data_type not in INDICES or count >= INDEX_ELEMENTS):
            elements[Type.Name(tensor.data_type).lower()] += count
    elements["float"] += sum(len(attribute.floats) for attribute in all_attributes(model))
    return +elements


def _peak_memory(path: Path, model: onnx.ModelProto, problem: str) -> Measure:
    if reason := problem or _memory_problem(model):
        return Measure("peak_memory_mb", None, detail=reason)
    memory = estimated_peak_memory_mb(path)
    unknown = "" if memory is not None else "the graph has a shape that is not fixed"
    return Measure(
        "peak_memory_mb", memory, detail=unknown or "weights and live activations, without the runtime itself"
    )


def _memory_problem(model: onnx.ModelProto) -> str:
    """Return the first reason why the estimate of the memory would be too small; empty without one."""
    if sum(1 for _ in all_graphs(model)) > 1 or model.functions:
        return "the graph has inner graphs or functions, whose activations are not counted"
    if model.graph.sparse_initializer or any(
        attribute.HasField("sparse_tensor") for attribute in all_attributes(model)
    ):
        return "the graph has sparse tensors, whose expanded size is not counted"
    try:
        # The estimate relies on the shapes in the file. A strict check compares them with the operators.
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError):
        return "the shapes in the file contradict its operators"
    return ""


def _sizes(path: Path, external: list[Path]) -> Iterator[Measure]:
    files = list(dict.fromkeys((path, *external)))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        return model_sizes({}, f"its data file {missing[0]} is missing")
    return model_sizes({"": sum(file.stat().st_size for file in files)})
