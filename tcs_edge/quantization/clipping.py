"""Clip the 8-bit ranges of activations where that lowers the error of rounding them.

A range from the lowest to the highest value spends most of its 256 steps on rare values if the values have long tails,
as behind SiLU. A shorter range rounds the frequent values finer and cuts the rare ones. The range with the least mean
squared error weighs one against the other.
Source: Banner et al. 2019, Post training 4-bit quantization of convolutional networks (arXiv 1810.05723).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tcs_edge.runtimes.onnxruntime import load_session

BINS = 4096
SAMPLES = 8192  # numbers of one value that an image contributes, at most
FRACTIONS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # of an end of the range, tried in this order
WORTHWHILE = 0.95  # of the squared error; a smaller gain leaves the range as it is


class Grid(NamedTuple):
    """The numbers `step` * (n - `zero`) for n from `low` to `high`."""

    step: float
    zero: int
    low: int
    high: int

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest number."""
        return self.step * (self.low - self.zero), self.step * (self.high - self.zero)

    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        """Return the nearest number of the grid to each of `numbers`."""
        steps = np.clip(np.rint(numbers / self.step) + self.zero, self.low, self.high)
        nearest: np.ndarray = self.step * (steps - self.zero)
        return nearest


def with_clipped_ranges(
    model: onnx.ModelProto, original: onnx.ModelProto, images: Sequence[np.ndarray], threads: int = 1
) -> onnx.ModelProto:
    """Copy the int8 `model` with the ranges of least squared error on `images`; the input keeps its own.

    Args:
        original: float32 model with one input, whose values have the same names.
        images: float32 (1, 3, S, S) each.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    computed = {name for node in original.graph.node for name in node.output}
    rounding = {
        node.input[0]: node
        for node in copy.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] in computed
    }
    grids = {value: _grid(tensors[node.input[1]], tensors[node.input[2]]) for value, node in rounding.items()}
    for value, counts in _histograms(original, grids, images, threads).items():
        scale, zero = (tensors[name] for name in rounding[value].input[1:3])
        best = _best(grids[value], counts)
        scale.CopyFrom(numpy_helper.from_array(np.array(best.step, np.float32), scale.name))
        kind = helper.tensor_dtype_to_np_dtype(zero.data_type)
        zero.CopyFrom(numpy_helper.from_array(np.array(best.zero, kind), zero.name))
    _renew_biases(copy.graph, tensors)
    return copy


def _grid(scale: TensorProto, zero: TensorProto) -> Grid:
    limits = np.iinfo(helper.tensor_dtype_to_np_dtype(zero.data_type))
    return Grid(float(numpy_helper.to_array(scale)), int(numpy_helper.to_array(zero)), limits.min, limits.max)


def _histograms(
    original: onnx.ModelProto, grids: Mapping[str, Grid], images: Sequence[np.ndarray], threads: int
) -> dict[str, np.ndarray]:
    """Count the numbers of each value in `BINS` equal parts of its range; numbers outside count at the ends.

    The activation behind a value does not distinguish the numbers outside.
    """
    model = onnx.ModelProto()
    model.CopyFrom(original)
    given = {output.name for output in model.graph.output}
    outputs = [helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in grids if value not in given]
    model.graph.output.extend(outputs)
    counts = {value: np.zeros(BINS, np.int64) for value in grids}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "values.onnx"
        onnx.save(model, path)
        session = load_session(path, threads)
        for image in images:
            found = session.run(list(grids), {original.graph.input[0].name: image})
            for (value, grid), numbers in zip(grids.items(), found, strict=True):
                # An odd distance does not stay in one column of an image.
                drawn = numbers.reshape(-1)[:: (numbers.size // SAMPLES) | 1]
                drawn, (low, high) = drawn[np.isfinite(drawn)], grid.ends
                places = np.clip((drawn - low) * (BINS / (high - low)), 0, BINS - 1).astype(np.int64)
                counts[value] += np.bincount(places, minlength=BINS)
    return counts


def _best(grid: Grid, counts: np.ndarray) -> Grid:
    """Return the grid with the least squared error: `grid` itself, or a shorter one that is clearly better."""
    low, high = grid.ends
    numbers = low + (np.arange(BINS) + 0.5) * (high - low) / BINS
    best, least = grid, WORTHWHILE * _error(grid, numbers, counts)
    for down in FRACTIONS if low < 0 else FRACTIONS[:1]:
        for up in FRACTIONS if high > 0 else FRACTIONS[:1]:
            # One step is for the zero, which is a whole step of the grid.
            step = (up * high - down * low) / (grid.high - grid.low - (low < 0))
            tried = Grid(step, grid.low + math.ceil(-down * low / step), grid.low, grid.high)
            error = _error(tried, numbers, counts)
            if error < least:
                best, least = tried, error
    return best


def _error(grid: Grid, numbers: np.ndarray, counts: np.ndarray) -> float:
    return float((counts * (grid.rounded(numbers) - numbers) ** 2).sum())


def _renew_biases(graph: onnx.GraphProto, tensors: Mapping[str, TensorProto]) -> None:
    """Give the int32 biases the scale that a runtime expects: that of the layer's input times that of its weight."""
    restored = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        inputs = [restored[name] for name in node.input if name in restored]
        if len(inputs) < 3:
            continue
        value, weight, bias = (numpy_helper.to_array(tensors[one.input[1]]).astype(np.float64) for one in inputs)
        new = (value * weight).reshape(bias.shape)
        if np.allclose(new, bias, rtol=1e-6, atol=0):
            continue
        numbers, scale = (tensors[name] for name in inputs[2].input[:2])
        steps = np.rint(numpy_helper.to_array(numbers) * (bias / new)).clip(-(2.0**31), 2.0**31 - 1)
        numbers.CopyFrom(numpy_helper.from_array(steps.astype(np.int32), numbers.name))
        scale.CopyFrom(numpy_helper.from_array(new.astype(np.float32), scale.name))
