"""Export an ONNX file with built-in preprocessing: a uint8 image of any size in, logits out.

Resize, crop and normalization are standard operators of opset 18. Resize with antialiasing and `exclude_outside`
has the same filter weights as Pillow, and like Pillow rounds to 8 bit after each of its two passes. A few per cent
of the pixels differ by one gray level, because Pillow resizes rows first and onnxruntime columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tcs_edge.data import Preprocess
from tcs_edge.errors import UsageError
from tcs_edge.export.files import save_onnx
from tcs_edge.runtimes.onnx_file import default_opset, read_onnx

PICTURE, IMAGE = "picture", "image"
PREFIX = "preprocess_"
FILTERS: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
}


def export_pixels(source: Path, path: Path, preprocess: Preprocess) -> Path:
    """Write the model of `source` (ours) with `preprocess` in front; return `path`.

    Its input "picture" is one upright RGB image, uint8 (H, W, 3), with any H and W. Its outputs are the outputs
    of `source` for this image.

    Raises:
        RequirementMissed: the result is not valid.
    """
    model = read_onnx(source)
    graph = model.graph
    steps = _Steps()
    image = _pixels_to_image(steps, preprocess)
    steps.add("Identity", [image], output=graph.input[0].name)
    nodes = [*steps.nodes, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.initializer.extend(steps.constants)
    graph.input.append(helper.make_tensor_value_info(PICTURE, TensorProto.UINT8, ["height", "width", 3]))
    for output in graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    _require_antialias(source, model)
    return save_onnx(model, path)


def _require_antialias(source: Path, model: onnx.ModelProto) -> None:
    opset = default_opset(model) or 0
    if opset < 18:
        raise UsageError(f"{source} has opset {opset}. Resizing with antialiasing needs 18. Export again.")


class _Steps:
    """New nodes and constants, with names that no model of ours contains."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: object, dtype: type = np.int64) -> str:
        name = f"{PREFIX}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, dtype=dtype), name))
        return name

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{PREFIX}{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}_node", **attributes))
        return output


def _pixels_to_image(steps: _Steps, preprocess: Preprocess) -> str:
    """Add the steps of `Preprocess`, from the input to float32 (1, 3, S, S)."""
    planes = steps.add("Transpose", [PICTURE], perm=[2, 0, 1])
    batch = steps.add("Unsqueeze", [planes, steps.constant([0])])
    size = _resized_size(steps, preprocess)
    channels = steps.constant([1, 3])
    sizes = steps.add("Concat", [channels, size], axis=0)
    resized = steps.add(
        "Resize", [batch, "", "", sizes], antialias=1, exclude_outside=1,
        coordinate_transformation_mode="half_pixel", **FILTERS[preprocess.interpolation],
    )  # fmt: skip
    return _normalized(steps, _center(steps, resized, size, preprocess), preprocess)


def _resized_size(steps: _Steps, preprocess: Preprocess) -> str:
    """Add the height and width after the resize, int64 (2,)."""
    side = steps.constant([preprocess.resized_side])
    shape = steps.add("Shape", [PICTURE], start=0, end=2)
    if preprocess.resize == "stretch":
        return steps.add("Expand", [side, steps.constant([2])])
    shorter = steps.add("ReduceMin", [shape], keepdims=1)
    return steps.add("Div", [steps.add("Mul", [shape, side]), shorter])  # whole numbers: rounds down


def _center(steps: _Steps, resized: str, size: str, preprocess: Preprocess) -> str:
    side = steps.constant([preprocess.img_size, preprocess.img_size])
    start = steps.add("Div", [steps.add("Sub", [size, side]), steps.constant([2, 2])])
    end = steps.add("Add", [start, side])
    return steps.add("Slice", [resized, start, end, steps.constant([2, 3])])


def _normalized(steps: _Steps, pixels: str, preprocess: Preprocess) -> str:
    mean, std = (np.reshape(values, (1, 3, 1, 1)) for values in (preprocess.mean, preprocess.std))
    values = steps.add("Cast", [pixels], to=TensorProto.FLOAT)
    shares = steps.add("Div", [values, steps.constant(255, np.float32)])
    centered = steps.add("Sub", [shares, steps.constant(mean, np.float32)])
    return steps.add("Div", [centered, steps.constant(std, np.float32)])
