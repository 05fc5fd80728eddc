"""Quantize to int8 as ONNX with QuantizeLinear and DequantizeLinear nodes, and return layers to float.

onnxruntime quantizes a model once, in seconds to a minute. The sensitivity of single layers and the fallback
need many variants of that model. Returning layers to float is an edit of the graph that takes milliseconds.
It gives the same numbers as a new quantization without these layers.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from tcs_edge.errors import UsageError, reason_of
from tcs_edge.quantization.gemm import read_for_int8
from tcs_edge.quantization.ranges import narrow_ranges
from tcs_edge.quantization.silu import round_sigmoid_products
from tcs_edge.runtimes.metadata import set_onnx_metadata
from tcs_edge.runtimes.onnx_file import read_onnx
from tcs_edge.utils.quiet import quiet
from tcs_edge.utils.telemetry import telemetry_off

HEAVY = ("Conv", "Gemm", "MatMul")  # nearly all of the arithmetic
# onnxruntime gives a layer's output the range behind these activations, and then computes both as one operator.
ACTIVATIONS = ("Clip", "Relu")
# onnxruntime also computes these in int8 between rounded values. All other layers stay float.
PASSING = (*ACTIVATIONS, "Add", "Concat", "MaxPool", "Mul", "Sigmoid")

FLOAT = "_fp32"


@dataclass(frozen=True)
class Scheme:
    """Scheme of 8-bit numbers.

    Attributes:
        per_channel: one scale per output channel of a weight instead of one for the whole weight.
        signed_activations: int8 activations, faster on Arm; otherwise uint8, as x86 instructions need.
        seven_bit_weights: for x86 processors without VNNI, whose 16-bit sums of two products overflow with 8 bits.
    """

    per_channel: bool
    signed_activations: bool
    seven_bit_weights: bool

    @property
    def name(self) -> str:
        """Name of the scheme: "per-channel" or "per-tensor"."""
        return "per-channel" if self.per_channel else "per-tensor"


def quantized(source: Path, scheme: Scheme, images: Iterable[np.ndarray], ranges: Path) -> onnx.ModelProto:
    """Quantize the convolutions and linear layers of `source`, an fp32 export of tcs-edge, to int8.

    The nodes are those of `read_for_int8`.

    Args:
        images: float32 (1, 3, S, S) each, for the ranges of the activations.
        ranges: file with these ranges; if it exists, `images` are not used.

    Raises:
        UsageError: onnxruntime cannot quantize this model.
    """
    with telemetry_off():
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    with TemporaryDirectory() as folder, _silent():
        path, original = Path(folder) / "int8.onnx", read_for_int8(source)
        try:
            quantize_static(
                original,
                path,
                _Reader(images, original.graph.input[0].name),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*HEAVY, *ACTIVATIONS],
                # `MatMulConstBOnly` does the same, but onnxruntime reads it for its other format alone.
                nodes_to_exclude=products_of_values(original.graph),
                per_channel=scheme.per_channel,
                reduce_range=scheme.seven_bit_weights,
                activation_type=QuantType.QInt8 if scheme.signed_activations else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibration_cache_path=ranges,
                extra_options={
                    # The next float operation, or the logits, get unrounded values instead of 256 steps.
                    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
                    # Layers can return to float only if the graph keeps its ReLUs. Runtimes fuse them on loading.
                    "QDQKeepRemovableActivations": True,
                },
            )
        except (ValueError, RuntimeError, TypeError, KeyError) as error:
            raise UsageError(
                f"onnxruntime cannot quantize this model: {reason_of(error).rstrip('.')}. Omit int8."
            ) from error
        model = read_onnx(path)
    narrow_ranges(model)
    round_sigmoid_products(model)
    _drop_unused_domains(model)
    set_onnx_metadata(model, {"precision": "int8"})
    return model


def products_of_values(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the matrix products without weights, as in attention.

    They are a small part of the work and a large part of the loss, so they stay float.
    """
    weights = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and weights.isdisjoint(node.input)]


def int8_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the nodes that compute in int8, in the order of the graph."""
    restored = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return tuple(
        node.name for node in model.graph.node if node.op_type in HEAVY and not restored.isdisjoint(node.input)
    )


def with_float_layers(model: onnx.ModelProto, original: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """Copy the int8 `model`, with the nodes `names` in float32 as in `original`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in original.graph.initializer}
    inputs = {node.name: node.input for node in original.graph.node}
    for node in copy.graph.node:
        if node.name in names:
            # A new name, because the plain one may be the output of a DequantizeLinear.
            node.input[:] = [name + FLOAT if name in weights else name for name in inputs[node.name]]
    for name, tensor in weights.items():
        copy.graph.initializer.add().CopyFrom(tensor)
        copy.graph.initializer[-1].name = name + FLOAT
    _spare_float_values(copy.graph, set(int8_layers(model)) - set(names))
    _drop_unread(copy.graph)
    return copy


def _spare_float_values(graph: onnx.GraphProto, int8: Collection[str]) -> None:
    """Remove the rounding to 8 bit of values that are not computed in int8, except for int8 layers that read them."""
    tensors = {tensor.name for tensor in graph.initializer}
    quantizers = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    computed: set[str] = set()  # values before rounding that an int8 operator computes
    restored: set[str] = set()  # the same values after rounding
    rounded = {}
    for node in graph.node:
        sources = {name for name in node.input if name and name not in tensors}
        if node.op_type == "DequantizeLinear" and node.input[0] in quantizers:
            value = quantizers[node.input[0]].input[0]
            if value in computed:
                restored.update(node.output)
            else:
                rounded[node.output[0]] = value
        elif node.name in int8 or _passes(node, sources, computed, restored):
            computed.update(node.output)
    for node in graph.node:
        if node.name not in int8:
            node.input[:] = [rounded.get(name, name) for name in node.input]


def _passes(node: onnx.NodeProto, sources: set[str], computed: set[str], restored: set[str]) -> bool:
    """True if the runtime computes `node` in int8, because it reads int8 values only."""
    fused = node.op_type in ACTIVATIONS and sources <= computed
    scaled = node.op_type == "Mul" and not sources.issuperset(node.input)  # by a stored float32 number
    return bool(sources) and node.op_type in PASSING and not scaled and (fused or sources <= restored)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers that no other node uses."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output):
            wanted.update(node.input)
            kept.append(node)
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)
    made = wanted | {name for node in kept for name in node.output}
    values = [value for value in graph.value_info if value.name in made]
    del graph.value_info[:]
    graph.value_info.extend(values)


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    used = {node.domain for node in model.graph.node}
    opsets = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)


class _Reader:
    """Reader of calibration images, with the interface of onnxruntime's CalibrationDataReader."""

    def __init__(self, images: Iterable[np.ndarray], name: str) -> None:
        self._images, self._name = iter(images), name

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {self._name: image}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    # onnxruntime writes advice to the root logger, and its calibration writes to stdout.
    with quiet("root"), contextlib.redirect_stdout(io.StringIO()):
        yield
