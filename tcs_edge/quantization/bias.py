"""Correct the biases of int8 layers for the mean error of their rounded weights.

Rounding moves the mean of a layer's output by (W - W_int8) E[x]. In a depthwise convolution with few weights per
channel this is the largest part of the noise, and the layers behind it add to it. The bias takes the difference back.
Source: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction (arXiv 1906.04721).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tcs_edge.runtimes.onnxruntime import load_session

BIASED = ("Conv", "Gemm")
MEAN = "_channel_mean"
INT32 = np.iinfo(np.int32)


def input_means(original: onnx.ModelProto, images: Sequence[np.ndarray], threads: int = 1) -> dict[str, np.ndarray]:
    """Return the mean of each channel, float64 (C,), of every value that a convolution or Gemm reads.

    Args:
        original: float32 model with one input.
        images: float32 (1, 3, S, S) each.
    """
    layers = [node for node in original.graph.node if node.op_type in BIASED]
    axes = {node.input[0]: [0, 2, 3] if node.op_type == "Conv" else [0] for node in layers}
    model = onnx.ModelProto()
    model.CopyFrom(original)
    del model.graph.output[:]
    for value, over in axes.items():
        constant = numpy_helper.from_array(np.array(over, np.int64), f"{value}_axes")
        model.graph.initializer.append(constant)
        mean = helper.make_node("ReduceMean", [value, constant.name], [value + MEAN], keepdims=0)
        model.graph.node.append(mean)
        model.graph.output.append(helper.make_tensor_value_info(value + MEAN, TensorProto.FLOAT, None))
    sums = [np.zeros(1) for _ in axes]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "means.onnx"
        onnx.save(model, path)
        session = load_session(path, threads)
        for image in images:
            means = session.run(None, {original.graph.input[0].name: image})
            sums = [total + mean for total, mean in zip(sums, means, strict=True)]
    return {value: total / len(images) for value, total in zip(axes, sums, strict=True)}


def correct_biases(
    model: onnx.ModelProto, original: onnx.ModelProto, means: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """Copy the int8 `model` with biases that keep the mean output of each layer of `original`.

    Layers without a bias stay as they are.

    Args:
        means: result of `input_means`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    stored = {
        node.output[0]: node
        for node in copy.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors
    }
    weights = {tensor.name: tensor for tensor in original.graph.initializer}
    plain = {node.name: node for node in original.graph.node}
    for node in copy.graph.node:
        biased = node.op_type in BIASED and len(node.input) > 2
        if biased and node.input[1] in stored and node.input[2] in stored:
            layer, bias = plain[node.name], stored[node.input[2]]
            exact = numpy_helper.to_array(weights[layer.input[1]]).astype(np.float64)
            error = exact - _restored(stored[node.input[1]], tensors)
            _shift(bias, tensors, _mean_output(layer, error, means[layer.input[0]]))
    return copy


def bias_shifts(model: onnx.ModelProto, original: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the difference of each int8 layer's bias to that of `original`, float64 (C,), by the layer's name."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    restored = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    weights = {tensor.name: tensor for tensor in original.graph.initializer}
    plain = {node.name: node for node in original.graph.node}
    return {
        node.name: _restored(restored[node.input[2]], tensors)
        - numpy_helper.to_array(weights[plain[node.name].input[2]]).astype(np.float64)
        for node in model.graph.node
        if node.op_type in BIASED and len(node.input) > 2 and node.input[2] in restored
    }


def _restored(node: onnx.NodeProto, tensors: Mapping[str, TensorProto]) -> np.ndarray:
    """Return the float64 values of a weight that `node`, a DequantizeLinear, restores."""
    values, scale, zero = (numpy_helper.to_array(tensors[name]).astype(np.float64) for name in node.input)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    shape = [-1 if scale.ndim and index == axis % values.ndim else 1 for index in range(values.ndim)]
    restored: np.ndarray = (values - zero.reshape(shape)) * scale.reshape(shape)
    return restored


def _mean_output(layer: onnx.NodeProto, weight: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the mean output of each channel for `weight`; the zeros of padding are neglected."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in layer.attribute}
    if layer.op_type == "Gemm":
        weight = weight if attributes.get("transB") else weight.T
        result: np.ndarray = attributes.get("alpha", 1.0) * (weight @ mean)
        return result
    groups = attributes.get("group", 1)
    per_tap = weight.sum(axis=tuple(range(2, weight.ndim))).reshape(groups, -1, weight.shape[1])
    sums: np.ndarray = np.einsum("goi,gi->go", per_tap, mean.reshape(groups, -1))
    return sums.reshape(-1)


def _shift(bias: onnx.NodeProto, tensors: Mapping[str, TensorProto], shift: np.ndarray) -> None:
    """Add `shift` to the int32 values that `bias`, a DequantizeLinear, restores."""
    tensor, scale = tensors[bias.input[0]], numpy_helper.to_array(tensors[bias.input[1]])
    values = numpy_helper.to_array(tensor) + np.rint(shift / scale.astype(np.float64))
    moved = values.clip(INT32.min, INT32.max).astype(np.int32)
    tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
