"""Features of a network's operators, which the cost model combines linearly.

The operators and shapes are taken after onnxruntime's own optimization: activations are fused, and channels are
padded to the blocks of its layout. The features count work (10^6 multiply-accumulates), traffic (10^6 bytes) and
calls. Each kind of work has its own feature, because its speed differs: a processor executes multiply-accumulates of
a dense convolution many times faster than those in a depthwise convolution.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Shape = Sequence[int]

BYTES_PER_FLOAT = 4
# Channels in a block of onnxruntime's blocked layout, for vector registers of 16 floats.
BLOCK = 16
# Sizes in 10^6 bytes: tensors beyond the second-level cache and weights beyond the last-level cache come from memory.
TENSOR_CACHE_MB, WEIGHT_CACHE_MB = 1.0, 16.0

FEATURES = (
    "calls", "views", "reorders", "stem_macs", "depthwise_macs", "depthwise_rows", "lowered_macs", "lowered_mb",
    "lowered_groups", "weights_mb", "cold_weights_mb", "vector_macs", "pointwise_macs", "dense_macs", "conv_rows",
    "tensors_mb", "large_tensors_mb", "gemm_macs", "gemm_mb", "matmul_macs", "matmul_mb", "matmuls", "copied_mb",
    "transposed_mb", "scattered_mb", "reordered_mb", "activated_mb", "softmax_mb", "normalized_mb", "reduced_mb",
    "elementwise_mb",
)  # fmt: skip
MAC_FEATURES = tuple(name for name in FEATURES if name.endswith("_macs"))
# Work whose speed relative to other work differs most between runtimes and processors: convolutions that Winograd's
# algorithm can save, work that onnxruntime on x86 is slow at (unfolded convolutions, activations), and weights.
DENSE_FEATURES = ("stem_macs", "dense_macs")
SLOW_FEATURES = ("lowered_macs", "lowered_mb", "lowered_groups", "activated_mb")
WEIGHT_FEATURES = ("weights_mb", "cold_weights_mb", "vector_macs")
# Features of transformers that convolutional networks have rarely or never.
TRANSFORMER_FEATURES = (
    "gemm_macs", "gemm_mb", "matmul_macs", "matmul_mb", "matmuls", "transposed_mb", "scattered_mb", "softmax_mb",
    "normalized_mb",
)  # fmt: skip

CONVOLUTIONS = frozenset({"Conv", "FusedConv"})
PRODUCTS = frozenset({"MatMul", "FusedMatMul"})
VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
MOVED = {
    **dict.fromkeys(("Slice", "Split", "Expand", "Gather", "Concat"), "copied_mb"),
    **dict.fromkeys(("Gelu", "QuickGelu", "Erf", "Sigmoid", "Tanh", "HardSigmoid"), "activated_mb"),
    **dict.fromkeys(
        ("LayerNormalization", "SkipLayerNormalization", "InstanceNormalization", "BatchNormalization"),
        "normalized_mb",
    ),
    "Softmax": "softmax_mb",
}
REDUCTIONS = frozenset({"ReduceMean", "GlobalAveragePool", "ReduceL2", "ReduceSum"})
REORDERS = frozenset({"ReorderInput", "ReorderOutput"})


@dataclass(frozen=True)
class Operator:
    """One executed operator: its ONNX type and the shapes of its inputs (weights included) and outputs."""

    kind: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


def cost_features(operators: Iterable[Operator]) -> dict[str, float]:
    """Sum the features of all operators, by name; features that are zero are left out."""
    total: defaultdict[str, float] = defaultdict(float)
    for operator in operators:
        for name, amount in _features(operator).items():
            total[name] += amount
    total["cold_weights_mb"] = cold_mb(total["weights_mb"])
    return {name: total[name] for name in FEATURES if total[name]}


def cold_mb(weights_mb: float) -> float:
    """Estimate the weights in 10^6 bytes that other layers evict from the cache before the layer runs again."""
    return weights_mb**2 / (weights_mb + WEIGHT_CACHE_MB)


def _features(operator: Operator) -> Mapping[str, float]:
    kind = operator.kind
    if kind in VIEWS:
        return {"views": 1}
    if kind in REORDERS:
        return {"reorders": 1, "reordered_mb": _mb(*operator.inputs, *operator.outputs)}
    return {"calls": 1, **_work(operator)}


def _work(operator: Operator) -> Mapping[str, float]:
    kind, written = operator.kind, _mb(*operator.outputs)
    if kind in CONVOLUTIONS:
        return _convolution(operator)
    if kind == "Gemm":
        return _fully_connected(operator)
    if kind in PRODUCTS:
        return _product(operator)
    if kind == "Transpose":
        keeps_rows = operator.inputs[0][-1] == operator.outputs[0][-1]
        return {"transposed_mb" if keeps_rows else "scattered_mb": written}
    if kind in MOVED:
        return {MOVED[kind]: written}
    read = _mb(*operator.inputs)
    return {"reduced_mb": read} if kind in REDUCTIONS else {"elementwise_mb": read + written}


def _convolution(operator: Operator) -> Mapping[str, float]:
    (image, weight), output = operator.inputs[:2], operator.outputs[0]
    groups = image[1] // weight[1]
    inside, touched = _taps(image, weight, output)
    macs = math.prod(output) * math.prod(weight[1:]) * inside / 1e6
    # A fourth input is the shortcut of a fused residual sum.
    traffic = _traffic(_mb(image) + _mb(output) * (1 + (len(operator.inputs) > 3)))
    common = {"weights_mb": _mb(weight) * touched, **traffic}
    if image[1] == 3 and groups == 1:
        return common | {"stem_macs": macs}
    if _is_lowered(operator.kind, image[1], weight, groups):
        unfolded = math.prod(output) * math.prod(weight[1:]) * groups / weight[0]
        return common | {"lowered_macs": macs, "lowered_mb": unfolded * BYTES_PER_FLOAT / 1e6, "lowered_groups": groups}
    rows = macs / output[3]
    if groups > 1:
        return common | {"depthwise_macs": macs, "depthwise_rows": rows}
    if math.prod(output[2:]) == 1:
        return common | {"vector_macs": macs}
    return common | {"pointwise_macs" if weight[2] * weight[3] == 1 else "dense_macs": macs, "conv_rows": rows}


def _is_lowered(kind: str, channels: int, weight: Shape, groups: int) -> bool:
    """Return True if onnxruntime unfolds the image and multiplies matrices, group by group, instead of convolving."""
    ragged = bool(channels % BLOCK or weight[0] % BLOCK)
    depthwise = weight[1] == 1 and weight[0] == groups
    return kind == "FusedConv" or ragged or (groups > 1 and not depthwise)


def _taps(image: Shape, weight: Shape, output: Shape) -> tuple[float, float]:
    """Return the fraction of (pixel, tap) pairs inside the image, and the fraction of taps that are ever inside.

    On a 1 x 1 image only the center of a 3 x 3 kernel is used.
    """
    inside = touched = 1.0
    for size, taps, places in zip(image[2:], weight[2:], output[2:], strict=True):
        stride = max(1, round(size / places))
        before = max(0, (places - 1) * stride + taps - size) // 2
        used = [[0 <= place * stride - before + tap < size for tap in range(taps)] for place in range(places)]
        inside *= sum(map(sum, used)) / (places * taps)
        touched *= sum(map(any, zip(*used, strict=True))) / taps
    return inside, touched


def _fully_connected(operator: Operator) -> Mapping[str, float]:
    given, output = operator.inputs[0], operator.outputs[0]
    rows = math.prod(output[:-1])
    macs = math.prod(output) * given[-1] / 1e6
    traffic = _mb(given) + _mb(output)
    common = {"weights_mb": macs / rows * BYTES_PER_FLOAT, **_traffic(traffic)}
    return common | ({"vector_macs": macs} if rows == 1 else {"gemm_macs": macs, "gemm_mb": traffic})


def _product(operator: Operator) -> Mapping[str, float]:
    left, output = operator.inputs[0], operator.outputs[0]
    return {
        "matmul_macs": math.prod(output) * left[-1] / 1e6,
        "matmul_mb": _mb(*operator.inputs, output),
        "matmuls": math.prod(output[:-2]),
        **_traffic(_mb(left, output)),
    }


def _traffic(mb: float) -> dict[str, float]:
    return {"tensors_mb": mb, "large_tensors_mb": mb**2 / (mb + TENSOR_CACHE_MB)}


def _mb(*shapes: Shape) -> float:
    return sum(math.prod(shape) for shape in shapes) * BYTES_PER_FLOAT / 1e6
