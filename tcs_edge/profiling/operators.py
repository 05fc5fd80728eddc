"""List the operators that onnxruntime executes in a graph, with their shapes, for the cost model."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tcs_edge.errors import reason_of
from tcs_edge.latency.board import ANCHOR_PX
from tcs_edge.latency.cost_model import Tables
from tcs_edge.latency.operators import Operator, cost_features
from tcs_edge.profiling.graphs import export_graph
from tcs_edge.utils.progress import busy
from tcs_edge.utils.telemetry import telemetry_off

logger = logging.getLogger(__name__)


def counted_operators(model: str, img_sizes: Iterable[int]) -> Tables:
    """Count the operators of a timm model without a shipped table, by a run at each size and at 224 px.

    A size that cannot be exported or run is left out. A requested size gets a warning with the reason.
    """
    asked = tuple(img_sizes)
    counted: dict[int, dict[str, float]] = {}
    with TemporaryDirectory() as folder, busy(f"counting the operators of {model}"):
        for img_size in dict.fromkeys((*asked, ANCHOR_PX)):
            graph = Path(folder) / f"{model}-{img_size}.onnx"
            try:
                export_graph(model, img_size, graph)
                counted[img_size] = cost_features(executed_operators(graph, img_size))
            except Exception as error:  # errors of the exporter and of onnxruntime share no base class
                if img_size in asked:
                    logger.warning(f"cannot predict the latency of {model} at {img_size} px: {reason_of(error)}")
    return {model: counted} if counted else {}


def executed_operators(graph: Path, img_size: int) -> list[Operator]:
    """Return the operators of one run in order, from onnxruntime's profiler."""
    with telemetry_off():
        import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = 1, True
    options.profile_file_prefix = str(graph.with_suffix(""))
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, img_size, img_size), dtype=np.float32)})
    trace = Path(session.end_profiling())
    events = json.loads(trace.read_text(encoding="utf-8"))
    trace.unlink()
    return [_operator(event["args"]) for event in events if event["name"].endswith("_kernel_time")]


def _operator(arguments: dict[str, Any]) -> Operator:
    shapes = [
        tuple(tuple(shape) for entry in arguments[side] for shape in entry.values())
        for side in ("input_type_shape", "output_type_shape")
    ]
    return Operator(arguments["op_name"], shapes[0], shapes[1])
