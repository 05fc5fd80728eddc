"""Sum the bytes of an ONNX file's stored tensors per layer."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from tcs_edge.errors import DataError, reason_of

SHOWN_LAYERS = 16
# "0.blocks.1.conv.weight_bias" and "0.blocks.1.conv.weight_scale" belong to layer "0.blocks.1.conv".
PARAMETER = re.compile(r"[./](weight|bias|kernel|gamma|beta|running_mean|running_var)\w*$")
SMALL_CONSTANTS = "constants"


@dataclass(frozen=True)
class Layer:
    """Layer of the exported model: bytes of its tensors, and the shape of the largest."""

    name: str
    bytes: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """The largest layers in the order of the file, the number and bytes of all others, and the total bytes."""

    largest: tuple[Layer, ...]
    others: int
    other_bytes: int
    total_bytes: int


def sizes_by_layer(path: Path) -> Sizes:
    """Return the bytes per layer of the ONNX file at `path`.

    Raises:
        DataError: the file is not readable as ONNX.
    """
    layers = _layers(path)
    largest = sorted(layers, key=lambda layer: -layer.bytes)[:SHOWN_LAYERS]
    total = sum(layer.bytes for layer in layers)
    shown = sum(layer.bytes for layer in largest)
    in_order = tuple(layer for layer in layers if layer in largest)
    return Sizes(in_order, len(layers) - len(largest), total - shown, total)


def _layers(path: Path) -> list[Layer]:
    tensors = _graph(path).initializer
    found: dict[str, Layer] = {}
    for tensor in tensors:
        owner = _owner(tensor.name)
        before = found.get(owner, Layer(owner, 0, ()))
        shape = max(before.shape, tuple(tensor.dims), key=math.prod)
        found[owner] = Layer(owner, before.bytes + _bytes(tensor), shape)
    return list(found.values())


def _graph(path: Path) -> onnx.GraphProto:
    try:
        graph = onnx.load(path, load_external_data=False, format="protobuf").graph
    except (OSError, DecodeError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read as ONNX: {reason_of(error)}") from None
    if not graph.initializer:
        raise DataError(f"{path.name} has no weights.")
    return graph


def _owner(name: str) -> str:
    owner, replaced = PARAMETER.subn("", name)
    # The student and its folded head form one sequence: "0.blocks.1" is the student's, "1" the head.
    owner = {"1": "classifier"}.get(owner, owner.removeprefix("0."))
    return owner if replaced else SMALL_CONSTANTS


def _bytes(tensor: onnx.TensorProto) -> int:
    size: int = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return size
