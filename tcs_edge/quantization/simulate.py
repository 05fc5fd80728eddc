"""Simulate an int8 file in PyTorch: a trainable copy of the network that rounds what the file rounds.

The ONNX file and the PyTorch program that the exporter translated have the same names of values. So every
QuantizeLinear of the file has its place in the program, with the file's own scale and zero point.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, fx, nn
from torch.export.passes import move_to_device_pass

from tcs_edge.data.normalize import CPU
from tcs_edge.export.files import save_onnx
from tcs_edge.export.onnx import DEFAULT_OPSET, INPUT, traced
from tcs_edge.quantization.bias import bias_shifts
from tcs_edge.quantization.gemm import ROWS, read_for_int8
from tcs_edge.quantization.qdq import Scheme, with_float_layers
from tcs_edge.quantization.quantize import least_noisy

logger = logging.getLogger(__name__)

LAYERS = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
BATCH_NORM = torch.ops.aten._native_batch_norm_legit_no_training.default
SILU = torch.ops.aten.silu.default
SMALLEST_END = 1e-12  # of a weight's range, for channels of zeros


@dataclass(frozen=True)
class Rounding:
    """Rounding of a value to 8 bits: zero point and limits in steps of `scale`.

    Attributes:
        for_all: True if every reader gets the rounded value; False if only convolutions and linear layers do.
    """

    scale: float
    zero_point: int
    low: int
    high: int
    for_all: bool


def simulate_int8(
    model: nn.Module, outputs: list[str], images: Sequence[np.ndarray], scheme: Scheme, device: torch.device = CPU
) -> fx.GraphModule:
    """Return a copy of `model`, (B, 3, S, S) -> `outputs`, that rounds as its int8 file, with gradients.

    Gradients pass through the rounding as they are, and are zero where it clips (straight-through estimator,
    arXiv 1712.05877). Weights have one scale per channel, which follows them. Biases start corrected, if they are so
    in the file. Batch norms keep their statistics. The names of the weights are those of `model`.

    Args:
        outputs: names of the outputs.
        images: float32 (1, 3, S, S) each, for the ranges of the activations.
        scheme: limits of activations and weights.
        device: device of the copy.

    Raises:
        UsageError: the model cannot be exported for any batch, or not be quantized.
    """
    program = traced(model, images[0].shape[-1], DEFAULT_OPSET, dynamic_batch=True, outputs=outputs)
    with TemporaryDirectory() as folder:
        source = save_onnx(program.model_proto, Path(folder) / "model.onnx")
        original, (int8, _) = read_for_int8(source), least_noisy(source, (scheme,), images, threads=1)
    assert program.exported_program is not None  # only a program that was read from a file has none
    # The program makes some constants on the device of its trace.
    network = move_to_device_pass(program.exported_program, device).module()
    assert isinstance(network, fx.GraphModule)
    nodes = {node.name: node for node in network.graph.nodes}
    nodes[INPUT] = next(node for node in network.graph.nodes if node.op == "placeholder")
    _write_out_silus(network.graph, nodes, original)
    _shift_biases(network, nodes, original, bias_shifts(int8, original))
    _round_values(network.graph, nodes, _roundings(with_float_layers(int8, original, ())))
    _round_weights(network.graph, 64 if scheme.seven_bit_weights else 127)
    network.graph.lint()
    network.recompile()
    return network.requires_grad_(True)


def _roundings(int8: onnx.ModelProto) -> dict[str, Rounding]:
    """Return the rounding of every activation, by its name in the float model."""
    tensors = {tensor.name: tensor for tensor in int8.graph.initializer}
    in_float = {name for node in int8.graph.node if node.op_type != "QuantizeLinear" for name in node.input}
    found = {}
    for node in int8.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        value, scale, zero = node.input[0], *(numpy_helper.to_array(tensors[name]) for name in node.input[1:3])
        limits = np.iinfo(zero.dtype)
        for_all = value not in in_float and not value.endswith(ROWS)
        found[value.removesuffix(ROWS)] = Rounding(float(scale), int(zero), limits.min, limits.max, for_all)
    return found


def _write_out_silus(graph: fx.Graph, nodes: dict[str, fx.Node], original: onnx.ModelProto) -> None:
    """Replace each SiLU by its Sigmoid and Mul of the float model, and add both to `nodes`."""
    products = {name: node.output[0] for node in original.graph.node if node.op_type == "Mul" for name in node.input}
    for gate in original.graph.node:
        silu = nodes.get(products.get(gate.output[0], ""))
        if gate.op_type != "Sigmoid" or silu is None or silu.target != SILU:
            continue
        with graph.inserting_before(silu):
            sigmoid = graph.call_function(torch.ops.aten.sigmoid.default, silu.args[:1])
            product = graph.call_function(torch.ops.aten.mul.Tensor, (silu.args[0], sigmoid))
        silu.replace_all_uses_with(product)
        graph.erase_node(silu)
        nodes |= {gate.output[0]: sigmoid, products[gate.output[0]]: product}


@torch.no_grad()
def _shift_biases(
    network: nn.Module, nodes: Mapping[str, fx.Node], original: onnx.ModelProto, shifts: Mapping[str, np.ndarray]
) -> None:
    """Add the shifts of the file's biases to those of the layers, or of the batch norms that the exporter folded."""
    parameters = dict(network.named_parameters())
    for layer in original.graph.node:
        if layer.name not in shifts:
            continue
        name, value = layer.input[2], nodes.get(layer.output[0])
        folded = value.args[0] if value else None
        if isinstance(folded, fx.Node) and folded.target == BATCH_NORM and isinstance(folded.args[2], fx.Node):
            name = folded.args[2].target
        if name in parameters:
            parameters[name] += torch.from_numpy(shifts[layer.name]).float()


def _round_values(graph: fx.Graph, nodes: Mapping[str, fx.Node], roundings: Mapping[str, Rounding]) -> None:
    for name, one in roundings.items():
        if name not in nodes:
            logger.debug(f"int8 simulation: {name} is not a value of the program, so it is not rounded")
            continue
        value = nodes[name]
        readers = [user for user in value.users if one.for_all or user.target in LAYERS]
        limits = (one.scale, one.zero_point, one.low, one.high)
        with graph.inserting_after(value):
            rounded = graph.call_function(torch.fake_quantize_per_tensor_affine, (value, *limits))
        for user in readers:
            user.replace_input_with(value, rounded)


def _round_weights(graph: fx.Graph, largest: int) -> None:
    for node in list(graph.nodes):
        if node.target in LAYERS and node.args[1].op == "get_attr":
            with graph.inserting_before(node):
                node.update_arg(1, graph.call_function(rounded_weight, (node.args[1], largest)))


def rounded_weight(weight: Tensor, largest: int) -> Tensor:
    """Round `weight` (C, ...) per channel to whole steps in -`largest`..`largest`.

    A batch norm behind the layer does not matter: its factor multiplies weights and scale of a channel alike.
    """
    ends = weight.detach().abs().flatten(1).amax(dim=1).clamp_min(SMALLEST_END)
    zeros = torch.zeros_like(ends, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, ends / largest, zeros, 0, -largest, largest)
