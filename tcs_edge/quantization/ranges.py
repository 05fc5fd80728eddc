"""Narrow the 8-bit range of a value to the part that the activation behind it distinguishes.

onnxruntime rounds the output of a convolution to 256 steps over its own range. It takes the range behind a ReLU or
Clip instead, but not behind other activations. Hard-swish maps everything below -3 to 0, and SiLU and GELU nearly so.
Without these values the 256 steps are finer. Saturation at the new ends then does the work of the activation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

# Operators that act on each number alone if their other inputs are constant scalars.
ELEMENTWISE = {
    "Add", "Clip", "Div", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Mul", "Neg", "Pow",
    "Relu", "Sigmoid", "Softplus", "Sub", "Swish", "Tanh",
}  # fmt: skip
GRID = 4097
# Largest effect of a cut on the activation, in steps. It has one sign, so it must stay far below rounding errors.
TOLERANCE = 0.1
WORTHWHILE = 0.99  # a range that shrinks less stays as it is


def narrow_ranges(model: onnx.ModelProto) -> int:
    """Narrow the ranges of rounded values that only an activation reads; return the number of changed ranges.

    `model` changes in place. It has QuantizeLinear and DequantizeLinear nodes with one scale per activation, and its
    nodes are in topological order.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    rounded = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    changed = 0
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in rounded:
            chain, ends = _activation(graph, node.output[0], tensors)
            if chain and len(ends) == 1:
                effect = _Effect(model, node.output[0], chain, ends.pop(), tensors)
                changed += _narrow(tensors[node.input[1]], tensors[node.input[2]], effect)
    return changed


def _activation(
    graph: onnx.GraphProto, value: str, tensors: Mapping[str, TensorProto]
) -> tuple[list[onnx.NodeProto], set[str]]:
    """Return the nodes that act on each number of `value` alone, and those of their results that others read."""
    known, chain = {value}, []
    ends = {output.name for output in graph.output}
    for node in graph.node:
        if known.isdisjoint(node.input):
            continue
        if _acts_alone(node, known, tensors):
            chain.append(node)
            known.update(node.output)
        else:
            ends.update(node.input)
    return chain, ends & known


def _acts_alone(node: onnx.NodeProto, known: set[str], tensors: Mapping[str, TensorProto]) -> bool:
    scalar = {name for name in node.input if name in tensors and np.prod(tensors[name].dims) == 1}
    return node.op_type in ELEMENTWISE and not node.domain and not set(node.input) - known - scalar - {""}


class _Effect:
    """An activation as a function of one number."""

    def __init__(
        self,
        model: onnx.ModelProto,
        value: str,
        chain: Sequence[onnx.NodeProto],
        end: str,
        tensors: Mapping[str, TensorProto],
    ) -> None:
        used = {name for node in chain for name in node.input}
        graph = helper.make_graph(
            list(chain),
            "activation",
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, [None])],
            [helper.make_tensor_value_info(end, TensorProto.FLOAT, None)],
            [tensors[name] for name in sorted(used & tensors.keys())],
        )
        self._evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=model.opset_import))
        self._value = value

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the activation's results (N,) for float32 numbers (N,)."""
        (results,) = self._evaluator.run(None, {self._value: numbers})
        return np.asarray(results, np.float64).reshape(-1)


def _narrow(scale: TensorProto, zero_point: TensorProto, effect: _Effect) -> bool:
    """Give a range new ends and return True, unless the activation distinguishes nearly all of it."""
    step, zero = float(numpy_helper.to_array(scale)), int(numpy_helper.to_array(zero_point))
    kind = helper.tensor_dtype_to_np_dtype(zero_point.data_type)
    limits = np.iinfo(kind)
    low, high = step * (limits.min - zero), step * (limits.max - zero)
    grid = np.linspace(low, high, GRID, dtype=np.float32)
    results = effect.of(grid)
    kept = grid[_flat_start(results, TOLERANCE * step) : GRID - _flat_start(results[::-1], TOLERANCE * step)]
    # A quantized range contains zero.
    new_low, new_high = min(0.0, float(kept[0])), max(0.0, float(kept[-1]))
    if not 0 < new_high - new_low < WORTHWHILE * (high - low):
        return False
    # One step is for the zero point, which rounds away from the cut.
    new_step = (new_high - new_low) / (limits.max - limits.min - (new_low < 0))
    scale.CopyFrom(numpy_helper.from_array(np.array(new_step, np.float32), scale.name))
    new_zero = np.array(limits.min + math.ceil(-new_low / new_step), kind)
    zero_point.CopyFrom(numpy_helper.from_array(new_zero, zero_point.name))
    return True


def _flat_start(results: np.ndarray, tolerance: float) -> int:
    """Return the last index whose result differs from none of the results before it by more than `tolerance`."""
    rise = results - np.minimum.accumulate(results)
    fall = np.maximum.accumulate(results) - results
    return int(np.flatnonzero(np.maximum(rise, fall) <= tolerance)[-1])
