"""Compare the tensors of an ONNX file with their bytes."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx

from tcs_edge.gate.measures import size_problem
from tcs_edge.runtimes.onnx_file import (
    KNOWN_DOMAINS,
    all_graphs,
    all_nodes,
    all_sparse_tensors,
    all_tensors,
    external_file,
    is_external,
)
from tcs_edge.utils.reading import require_content

CONTEXT = "EPContext"  # of com.microsoft: execution providers keep what they compiled in it, or beside the model
Type = onnx.TensorProto.DataType
# Types that the lowest supported onnx has no names for, by number.
NEWER = {23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2"}
# Bits of one element. A type that is missing here, such as a newer one, cannot be checked.
BITS = {
    Type.FLOAT: 32, Type.UINT8: 8, Type.INT8: 8, Type.UINT16: 16, Type.INT16: 16, Type.INT32: 32, Type.INT64: 64,
    Type.BOOL: 8, Type.FLOAT16: 16, Type.DOUBLE: 64, Type.UINT32: 32, Type.UINT64: 64, Type.COMPLEX64: 64,
    Type.COMPLEX128: 128, Type.BFLOAT16: 16, Type.FLOAT8E4M3FN: 8, Type.FLOAT8E4M3FNUZ: 8, Type.FLOAT8E5M2: 8,
    Type.FLOAT8E5M2FNUZ: 8, Type.UINT4: 4, Type.INT4: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
# Fields of a tensor that has no raw bytes; an element of fewer than 8 bits shares an entry with others.
FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
FIELD_OF = {
    Type.FLOAT: "float_data", Type.COMPLEX64: "float_data", Type.INT64: "int64_data", Type.DOUBLE: "double_data",
    Type.COMPLEX128: "double_data", Type.UINT32: "uint64_data", Type.UINT64: "uint64_data",
    Type.STRING: "string_data",
}  # fmt: skip


def type_name(number: int) -> str:
    """Return the name of an element type of `BITS`, such as "float"."""
    return NEWER.get(number) or str(Type.Name(number)).lower()


def tensors_problem(path: Path, model: onnx.ModelProto) -> str:
    """Return the first contradiction between the tensors of `model` and its bytes; empty without one.

    Raises:
        DataError: external data outside the model's folder, or a Git LFS pointer.
    """
    problems = itertools.chain(
        _other_files(model),
        _name_problems(model),
        (_problem(path, tensor) for tensor in all_tensors(model)),
        map(_sparse_problem, all_sparse_tensors(model)),
    )
    return next((problem for problem in problems if problem), "")


def foreign_problem(model: onnx.ModelProto) -> str:
    """Return the reason why parameters may be missing from the file: operators that no build of a runtime has."""
    known = KNOWN_DOMAINS | {function.domain for function in model.functions}
    for node in all_nodes(model):
        if node.domain not in known and not node.domain.startswith("com.microsoft."):
            return f"the operator {node.op_type[:60]!r} of the domain {node.domain[:60]!r} can have weights of its own"
    return ""


def _other_files(model: onnx.ModelProto) -> Iterator[str]:
    """Yield operators that read a compiled model from another file, whose size and weights are unknown."""
    for node in all_nodes(model):
        if node.op_type == CONTEXT:
            yield f"the operator {CONTEXT} stands for a compiled model, whose weights cannot be counted"


def _name_problems(model: onnx.ModelProto) -> Iterator[str]:
    if model.training_info:
        yield "it has graphs for training, which a runtime ignores"
    for graph in all_graphs(model):
        names = Counter(tensor.name for tensor in graph.initializer)
        names.update(sparse.values.name for sparse in graph.sparse_initializer)
        yield from (f"two tensors have the name {name[:60]!r}" for name, count in names.items() if count > 1)
        # Before IR version 4, an initializer has an input of the same name.
        made = Counter({value.name for value in graph.input} | set(names))
        made.update(name for node in graph.node for name in node.output if name)
        yield from (f"two values have the name {name[:60]!r}" for name, count in made.items() if count > 1)
        for listed in (graph.input, graph.value_info, graph.output):
            stated = Counter(value.name for value in listed)
            yield from (f"{name[:60]!r} has two shapes" for name, count in stated.items() if count > 1)


def _sparse_problem(sparse: onnx.SparseTensorProto) -> str:
    """Return the contradiction between the shape of a sparse tensor and its values and positions."""
    reason = size_problem(sparse.dims)
    if not reason:
        stored, rank = list(sparse.values.dims), len(sparse.dims)
        fits = len(stored) == 1 and list(sparse.indices.dims) in (stored, [*stored, rank])
        fits = fits and sparse.indices.data_type == Type.INT64 and stored[0] <= math.prod(sparse.dims)
        reason = "" if fits else "its values, positions and shape contradict each other"
    return f"sparse tensor {sparse.values.name[:60]!r}: {reason}" if reason else ""


def _problem(path: Path, tensor: onnx.TensorProto) -> str:
    reason = size_problem(tensor.dims) or _data_problem(path, tensor)
    return f"tensor {tensor.name[:60]!r}: {reason}" if reason else ""


def _data_problem(path: Path, tensor: onnx.TensorProto) -> str:
    elements, bits = math.prod(tensor.dims), BITS.get(tensor.data_type)
    used = [field for field in FIELDS if len(getattr(tensor, field))]
    if tensor.HasField("segment"):
        return "it is stored in segments"
    if len(used) + tensor.HasField("raw_data") + is_external(tensor) > 1:
        return "it has values in two places"
    if tensor.data_type == Type.STRING and not tensor.HasField("raw_data"):
        return _differ(len(tensor.string_data), elements, "strings")
    if bits is None:
        return f"its data type {tensor.data_type} is unknown"
    size = math.ceil(elements * bits / 8)
    if is_external(tensor):
        return _external_problem(path, tensor, size)
    if tensor.HasField("raw_data"):
        return _differ(len(tensor.raw_data), size, "bytes")
    field = FIELD_OF.get(tensor.data_type, "int32_data")
    if used not in ([], [field]):
        return f"its values are in {used[0]} instead of {field}"
    per_element = 2 if tensor.data_type in (Type.COMPLEX64, Type.COMPLEX128) else 1
    entries = size if bits < 8 else elements * per_element
    return _differ(len(getattr(tensor, field)), entries, "values")


def _external_problem(path: Path, tensor: onnx.TensorProto, size: int) -> str:
    file = external_file(path, tensor)
    if not file.is_file():
        return f"its data file {file.name} is missing"
    require_content(file)
    keys = [entry.key for entry in tensor.external_data]
    facts = {entry.key: entry.value for entry in tensor.external_data}
    if len(keys) != len(facts):
        return "its external data has two equal keys"
    numbers = {key: facts[key] for key in ("offset", "length") if key in facts}
    if any(not (text.isascii() and text.isdigit() and len(text) < 20) for text in numbers.values()):
        return f"the place of its external data is not a number: {str(numbers)[:60]}"
    offset = int(numbers.get("offset", "0"))
    if "length" in numbers and (problem := _differ(int(numbers["length"]), size, "bytes")):
        return problem
    stored = file.stat().st_size
    return f"its data ends after the end of {file.name}" if offset + size > stored else ""


def _differ(stored: int, expected: int, unit: str) -> str:
    return "" if stored == expected else f"it has {stored} {unit}, its shape and type need {expected}"
