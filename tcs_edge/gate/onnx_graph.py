"""Check that an ONNX graph follows the rules of its operators, without a runtime."""

from __future__ import annotations

from pathlib import Path

import onnx

from tcs_edge.errors import reason_of
from tcs_edge.runtimes.onnx_file import nodes_within

Key = tuple[str, str, str]  # domain, name and overload of a function
MAX_CALL_DEPTH = 50
MAX_OPERATORS = 1_000_000  # after all calls of functions are replaced


def graph_problem(path: Path, model: onnx.ModelProto) -> str:
    """Return the first reason why no runtime can run the graph; empty without one.

    Checks the structure (inputs, order, names, operators, attributes) and the shapes of all standard operators.
    Operators of other domains are not checked. Stored shapes of inner values and outputs are left out, because
    runtimes compute them again.
    """
    if problem := _versions_problem(model) or _calls_problem(model):
        return problem
    if not model.graph.output:  # runtimes load it, and leave out every operator
        return "its graph has no output"
    try:
        onnx.checker.check_model(str(path))
        onnx.shape_inference.infer_shapes(_without_stored_shapes(model), check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        return f"its graph cannot run: {reason_of(error)}"
    return ""


def _versions_problem(model: onnx.ModelProto) -> str:
    """Return the reason why the versions of the operators are unknown; empty without one."""
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            return f"its graph cannot run: it has two versions of the operators of the domain {domain[:60]!r}"
    newest = onnx.defs.onnx_opset_version()
    if versions.get("", 0) > newest:
        return f"its opset {versions['']} is newer than the installed onnx knows ({newest}). Update onnx"
    return ""


def _calls_problem(model: onnx.ModelProto) -> str:
    """Return the reason why the calls of functions are too deep or too many to follow; empty without one.

    A few functions that call each other twice have more calls than anything can follow.
    """
    called = {_key(one): [_key(node) for node in nodes_within(one.node)] for one in model.functions}
    sizes: dict[Key, int] = {}  # operators after all calls are replaced
    waiting = set(called)
    for _ in range(MAX_CALL_DEPTH):
        ready = {key for key in waiting if not waiting.intersection(called[key])}
        sizes |= {key: sum(sizes.get(inner, 1) for inner in called[key]) for key in ready}
        waiting -= ready
    if waiting:
        return f"its graph cannot run: its functions call each other, or are more than {MAX_CALL_DEPTH} levels deep"
    total = sum(sizes.get(_key(node), 1) for node in nodes_within(model.graph.node))
    if total > MAX_OPERATORS:
        return f"its graph cannot run: its functions stand for more than {MAX_OPERATORS:,} operators"
    return ""


def _key(part: onnx.FunctionProto | onnx.NodeProto) -> Key:
    name = part.name if isinstance(part, onnx.FunctionProto) else part.op_type
    return part.domain, name, part.overload


def _without_stored_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    return copy
