from __future__ import annotations

import math

import numpy as np
import pytest

from tcs_edge.latency.board import Traits
from tcs_edge.latency.cost_model import Shares
from tcs_edge.latency.runtime_ratio import DENSE_SHARE, NCNN_PI5, published_pairs, runtime_ratio

DEPTHWISE, DENSE = (Traits(Shares(dense=DENSE_SHARE[kind]), 15.0, 224) for kind in (True, False))


def traits_of(depthwise: bool, ncnn_ms: float) -> Traits:
    return Traits(Shares(dense=DENSE_SHARE[depthwise]), ncnn_ms / NCNN_PI5, 224)


def test_small_and_depthwise_networks_have_a_lower_ratio() -> None:
    small, large = (runtime_ratio("onnxruntime", "ncnn", traits_of(False, ms)).log for ms in (20.0, 500.0))
    assert small < large
    assert runtime_ratio("onnxruntime", "ncnn", DEPTHWISE).log < large
    assert 1.1 < math.exp(runtime_ratio("onnxruntime", "ncnn", DEPTHWISE).log) < 1.5


def test_left_out_pairs_are_inside_of_the_interval() -> None:
    """Nine of ten published pairs, each predicted from the other fourteen."""
    pairs = [pair for pair in published_pairs() if "ncnn" in pair.ms]
    inside, errors = [], []
    for left_out in pairs:
        rest = tuple(pair for pair in pairs if pair is not left_out)
        found = runtime_ratio("onnxruntime", "ncnn", traits_of(left_out.depthwise, left_out.ms["ncnn"]), rest)
        error = abs(found.log - left_out.log("onnxruntime", "ncnn"))
        inside.append(error <= found.half)
        errors.append(error)
    assert len(pairs) == 15
    assert np.mean(inside) >= 0.8
    assert math.exp(np.median(errors)) < 1.1


def test_two_pairs_have_the_spread_of_all_kinds() -> None:
    found = runtime_ratio("openvino", "ncnn", DENSE)
    assert math.exp(found.log) == pytest.approx(0.92, abs=0.01)
    assert found.half > 1.5 * runtime_ratio("onnxruntime", "ncnn", DENSE).half
    assert math.exp(runtime_ratio("openvino", "onnxruntime", DENSE).log) == pytest.approx(1 / 1.936, abs=0.02)


def test_a_runtime_equals_itself_and_an_unpublished_pair_is_unknown() -> None:
    assert runtime_ratio("ncnn", "ncnn", DENSE).log == 0
    assert runtime_ratio("onnxruntime", "armnn", DENSE) is None
