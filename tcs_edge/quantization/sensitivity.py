"""Measure the cost of each layer in int8, one layer at a time, on a few images without labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from tcs_edge.quantization.qdq import int8_layers, with_float_layers
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.utils.progress import track

BROKEN = 1e12
BATCH = 16  # bounds the memory of a file that takes any batch


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer in int8 with all others in float.

    Attributes:
        kind: the operator, with ", grouped" for a grouped convolution.
        noise: sum difference^2 / sum logit^2, so 0.001 is 30 dB; `BROKEN` for logits with NaN or Inf.
    """

    name: str
    kind: str
    noise: float

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self)


def layer_costs(
    model: onnx.ModelProto, original: onnx.ModelProto, images: np.ndarray, threads: int = 1
) -> tuple[LayerCost, ...]:
    """Measure the cost of every int8 layer of `model`; return the most sensitive first.

    Rounding errors of different layers are nearly independent, so their powers nearly add up. The sum over
    some layers estimates the noise of a model with only these layers in int8.

    Args:
        images: float32 (N, 3, S, S).
    """
    layers = int8_layers(model)
    kinds = {node.name: _kind(node) for node in original.graph.node}
    expected = run_model(original, images, threads)
    costs = []
    for name in track(layers, "measuring each layer in int8", total=len(layers)):
        alone = with_float_layers(model, original, set(layers) - {name})
        costs.append(LayerCost(name, kinds[name], noise_share(expected, run_model(alone, images, threads))))
    return tuple(sorted(costs, key=lambda cost: (-cost.noise, cost.name)))


def run_model(model: onnx.ModelProto, images: np.ndarray, threads: int = 1) -> np.ndarray:
    """Return the logits (N, classes) of ONNX Runtime for float32 (N, 3, S, S)."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        with OrtRunner(path, threads) as runner:
            parts = [runner.run(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate(parts)


def noise_share(expected: np.ndarray, logits: np.ndarray) -> float:
    """Return the power of the difference over the power of `expected`; `BROKEN` for logits that are not finite."""
    signal = float((expected.astype(np.float64) ** 2).sum())
    noise = float(((expected.astype(np.float64) - logits) ** 2).sum())
    return min(BROKEN, noise / signal) if math.isfinite(noise) and signal > 0 else BROKEN


def _kind(node: onnx.NodeProto) -> str:
    attributes: Mapping[str, int] = {attribute.name: attribute.i for attribute in node.attribute}
    grouped = attributes.get("group", 1) > 1
    return f"{node.op_type}, grouped" if grouped else node.op_type


def most_sensitive(costs: Sequence[LayerCost], keep_noise: float) -> int:
    """Return the number of leading `costs` to drop so that the rest sums to at most `keep_noise`."""
    left = sum(cost.noise for cost in costs)
    for count, cost in enumerate(costs):
        if left <= keep_noise:
            return count
        left -= cost.noise
    return len(costs)
