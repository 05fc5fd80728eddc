"""Layer costs: measured separately, sorted, and nearly additive."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tcs_edge.quantization.qdq import int8_layers
from tcs_edge.quantization.sensitivity import BROKEN, LayerCost, layer_costs, most_sensitive, noise_share, run_model

IMAGES = np.random.default_rng(1).standard_normal((4, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def costs(int8, original):
    return layer_costs(int8, original, IMAGES)


def test_every_layer_has_a_cost_and_the_most_sensitive_is_first(costs, int8):
    assert sorted(cost.name for cost in costs) == sorted(int8_layers(int8))
    assert [cost.noise for cost in costs] == sorted((cost.noise for cost in costs), reverse=True)
    assert {cost.kind for cost in costs} >= {"Conv", "Gemm", "Conv, grouped"}


def test_layer_costs_nearly_add_up(costs, int8, original):
    whole = noise_share(run_model(original, IMAGES), run_model(int8, IMAGES))
    assert 0.3 * whole < sum(cost.noise for cost in costs) < 3 * whole


def test_a_layer_with_a_wrong_scale_is_the_most_sensitive(int8, original):
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(int8)
    name = int8_layers(int8)[3]
    node = next(node for node in spoilt.graph.node if node.name == name)
    maker = next(m for m in spoilt.graph.node if node.input[1] in m.output)
    scale = next(t for t in spoilt.graph.initializer if t.name == maker.input[1])
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(4), scale.name))
    assert layer_costs(spoilt, original, IMAGES)[0].name == name


def test_noise_is_a_fraction_of_the_power():
    logits = np.array([[3.0, 4.0]])
    assert noise_share(logits, logits) == 0
    assert noise_share(logits, logits + np.array([[0.0, 0.5]])) == pytest.approx(0.25 / 25)
    assert noise_share(logits, np.array([[np.nan, 0.0]])) == noise_share(logits * 0, logits) == BROKEN


@pytest.mark.parametrize(("keep", "count"), [(10.0, 0), (7.0, 0), (6.9, 1), (3.0, 1), (2.9, 2), (1.0, 2), (0.5, 3)])
def test_the_most_sensitive_layers_are_counted_until_the_noise_is_low(keep, count):
    costs = [LayerCost(str(noise), "Conv", noise) for noise in (4.0, 2.0, 1.0)]
    assert most_sensitive(costs, keep) == count
