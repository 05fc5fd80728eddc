"""Operators of networks without a shipped table, counted on this machine."""

from __future__ import annotations

import pytest

from tcs_edge.latency.cost_model import shipped_cost_model
from tcs_edge.latency.device import device_latencies
from tcs_edge.latency.operators import MAC_FEATURES
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.profiling.operators import counted_operators
from tcs_edge.specs.profile import Profile
from tcs_edge.specs.target import load_target


def test_operators_counted_here_equal_the_shipped_table():
    """Equal except for the padding of channels to the width of this processor's registers."""
    name = "test_resnet"
    counted = counted_operators(name, [64])[name]
    assert set(counted) == {64, 224}
    for size, features in counted.items():
        table = shipped_cost_model().tables[name][size]
        assert sum(features.get(key, 0) for key in MAC_FEATURES) == pytest.approx(
            sum(table.get(key, 0) for key in MAC_FEATURES), rel=0.15
        )


def test_an_unlisted_model_gets_a_latency_from_its_operators():
    name = "test_byobnet"
    assert name not in CANDIDATES
    target = load_target("raspberrypi4")
    tables = counted_operators(name, [64])
    device = device_latencies(target, Profile(target=target.name), threads=1, tables=tables)
    found = device.latency(name, 64)
    assert 0 < found.low_ms < found.p50_ms < found.high_ms
    assert found.source == "estimated"


def test_an_impossible_size_causes_a_warning_with_the_reason(recorder):
    counted = counted_operators("test_vit", [60])
    assert 60 not in counted.get("test_vit", {})
    assert recorder.warned[0].startswith("cannot predict the latency of test_vit at 60 px:")
