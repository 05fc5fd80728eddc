"""Check that an ONNX graph follows the rules of its operators, without a runtime."""

from __future__ import annotations

from pathlib import Path

import onnx

from tcs_edge.errors import reason_of


def graph_problem(path: Path, model: onnx.ModelProto) -> str:
    """Return the first reason why no runtime can run the graph; empty without one.

    Checks the structure (inputs, order, names, operators, attributes) and the shapes of all standard operators.
    Operators of other domains are not checked. Stored shapes of inner values and outputs are left out, because
    runtimes compute them again.
    """
    try:
        onnx.checker.check_model(str(path))
        onnx.shape_inference.infer_shapes(_without_stored_shapes(model), check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        return f"its graph cannot run: {reason_of(error)}"
    return ""


def _without_stored_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    return copy
