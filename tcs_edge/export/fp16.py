"""Export an ONNX file with float16 weights: half the size, the same float32 arithmetic.

Converters that turn the whole graph into float16 make it slower on CPUs without float16 kernels (onnxruntime
issue 25824: 4 times on a Raspberry Pi 5). Here only the stored weights shrink. A Cast behind each weight restores
float32, and runtimes remove it while they load the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tcs_edge.export.files import save_onnx
from tcs_edge.runtimes.metadata import set_onnx_metadata
from tcs_edge.runtimes.onnx_file import read_onnx

SMALLEST = 256  # elements; biases and scales would save next to nothing
STORED = "_fp16"


def export_onnx_fp16(source: Path, path: Path) -> Path:
    """Write the model of `source` (ours, fp32) with float16 weights; return `path`.

    A weight outside float16's range stays float32, because float16 would make it infinite.

    Raises:
        DataError: `source` is not an ONNX file of ours.
        RequirementMissed: the result is not valid.
    """
    model = read_onnx(source)
    casts = [_halve(tensor) for tensor in model.graph.initializer if _fits(tensor)]
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    set_onnx_metadata(model, {"precision": "fp16"})
    return save_onnx(model, path)


def _fits(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return False
    values = numpy_helper.to_array(tensor)
    return values.size >= SMALLEST and bool(np.abs(values).max() <= np.finfo(np.float16).max)


def _halve(tensor: onnx.TensorProto) -> onnx.NodeProto:
    """Convert the initializer to float16 under another name; return the Cast node to its old name."""
    name, values = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
    tensor.CopyFrom(numpy_helper.from_array(values, name + STORED))
    return helper.make_node("Cast", [name + STORED], [name], name=f"{name}_cast", to=onnx.TensorProto.FLOAT)
