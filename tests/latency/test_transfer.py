from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from tcs_edge.latency.board import Traits, shipped_board_model
from tcs_edge.latency.cost_model import Shares
from tcs_edge.latency.reference import reference, rows_of
from tcs_edge.latency.runtime_ratio import runtime_ratio
from tcs_edge.latency.transfer import (
    USUAL_NETWORKS,
    USUAL_SPREAD,
    by_facts,
    by_proxy,
    by_rows,
    interval,
)
from tcs_edge.specs.profile import LatencyRow, load_profile
from tcs_edge.specs.target import load_target

MakeRow = Callable[..., LatencyRow]
PLAIN = Traits(Shares(dense=0.1), 5.0, 224)
NETWORKS = ("lcnet_050", "resnet18", "mobilenetv2_100", "repvit_m0_9")


@pytest.mark.parametrize("count", [1, 2, 7, 27])
def test_interval_equals_students_t_with_a_pooled_spread(count: int) -> None:
    logs = np.random.default_rng(0).normal(size=count)
    degrees = USUAL_NETWORKS + count - 1
    variance = (USUAL_NETWORKS * USUAL_SPREAD**2 + np.square(logs - logs.mean()).sum()) / degrees
    center, half = interval(logs.tolist())
    assert center == pytest.approx(logs.mean())
    assert half == pytest.approx(stats.t.ppf(0.95, degrees) * math.sqrt(variance * (1 + 1 / count)))


def test_rows_of_a_device_give_its_factor(make_row: MakeRow) -> None:
    against = reference(1)
    rows = [make_row(name, 7 * against.latency(name, 96).p50_ms, threads=1) for name in NETWORKS]
    found = by_rows(rows, against)
    assert found is not None
    assert found.mean == pytest.approx(math.log(7))
    factor = found.factor("starnet_s1", Traits(Shares(transformer=0.5), 5.0, 32))
    assert factor.center == pytest.approx(math.log(7))
    assert factor.up == factor.down == pytest.approx(found.half_width)


def test_more_rows_narrow_the_interval(make_row: MakeRow) -> None:
    against = reference(1)
    rows = [make_row(name, 7 * against.latency(name, 96).p50_ms, threads=1) for name in NETWORKS]
    widths = [by_rows(rows[:count], against).half_width for count in (1, 2, 4)]
    assert widths == sorted(widths, reverse=True)
    nothing = by_facts(load_target("raspberrypi4").cpu, 1, load_target("x86-avx512").cpu, 1)
    assert nothing.half_width > widths[0]


def test_estimated_rows_and_unlisted_models_are_ignored(make_row: MakeRow) -> None:
    rows = [make_row("resnet18", 9.0, threads=1, source="estimated"), make_row("nobody", 9.0, threads=1)]
    assert by_rows(rows, reference(1)) is None
    assert by_proxy([], reference(1), "onnxruntime") is None


def test_the_interval_covers_90_percent_of_new_networks() -> None:
    """Simulated boards with the usual spread, with the interval for one more network."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        logs = rng.normal(2.0, 0.26, size=9)
        mean, half = interval(logs[:8].tolist())
        inside.append(abs(logs[8] - mean) <= half)
    assert 0.87 < np.mean(inside) < 0.94


@pytest.mark.parametrize(("board", "share"), [("raspberrypi5", 1.0), ("raspberrypi4", 0.5)])
def test_the_runtime_factor_depends_on_the_arithmetic_of_the_rows(board: str, share: float) -> None:
    profile, against = load_profile(board), reference(1)
    rows = rows_of(profile, "ncnn", "fp16", 1) or rows_of(profile, "ncnn", "fp32", 1)
    found = by_proxy(rows, against, "onnxruntime")
    assert found is not None
    counted = against.published("resnet18", 224)
    traits = Traits(counted.shares, counted.p50_ms, 224)
    own = found.factor("resnet18", traits)
    ratio = runtime_ratio("onnxruntime", "ncnn", traits)
    published = next(row.p50_ms for row in rows if row.model == "resnet18")
    assert math.exp(own.center) * counted.p50_ms == pytest.approx(published * math.exp(share * ratio.log))
    assert own.up < found.factor("starnet_s1", traits).up


def test_ncnns_own_latency_is_returned_for_ncnn() -> None:
    against = reference(4)
    rows = rows_of(load_profile("raspberrypi5"), "ncnn", "fp16", 4)
    found = by_proxy(rows, against, "ncnn")
    assert found is not None
    counted = against.published("mnasnet_100", 224)
    factor = found.factor("mnasnet_100", Traits(counted.shares, counted.p50_ms, 224))
    published = next(row.p50_ms for row in rows if row.model == "mnasnet_100")
    assert math.exp(factor.center) * counted.p50_ms == pytest.approx(published)
    assert factor.up == factor.down == 0


def test_other_sizes_and_transformers_widen_the_interval() -> None:
    found = by_proxy(rows_of(load_profile("raspberrypi4"), "ncnn", "fp32", 1), reference(1), "onnxruntime")
    assert found is not None
    plain, small = found.factor("starnet_s1", PLAIN), found.factor("starnet_s1", Traits(PLAIN.shares, 5.0, 56))
    assert small.up > plain.up
    assert small.center - plain.center == pytest.approx(2 * shipped_board_model().halving)
    transformer = found.factor("starnet_s1", Traits(Shares(dense=0.1, transformer=1.0), 5.0, 224))
    assert transformer.up > plain.up
    assert transformer.center - transformer.down == pytest.approx(plain.center - plain.down)


def test_rows_at_several_sizes_set_the_effect_of_the_size() -> None:
    """MLPerf's rows on this board are slower at small sizes than the mean of all boards, or faster."""
    profile, against = load_profile("raspberrypi4"), reference(4)
    ncnn = rows_of(profile, "ncnn", "fp32", 4)
    sized = [rows_of(profile, name, "fp32", 4) for name in ("tflite", "armnn")]
    alone, with_sizes = by_proxy(ncnn, against, "onnxruntime"), by_proxy(ncnn, against, "onnxruntime", sized)
    assert alone.halving == pytest.approx(shipped_board_model().halving)
    assert with_sizes.halving < alone.halving
    assert with_sizes.halving_half < alone.halving_half


def test_runtimes_that_nobody_compared_have_no_estimate() -> None:
    rows = rows_of(load_profile("raspberrypi4"), "armnn", "fp32", 4)
    assert by_proxy(rows, reference(4), "onnxruntime") is None
    assert by_proxy(rows, reference(4), "armnn") is not None


@pytest.mark.parametrize("factor", [3.8, 0.2])
def test_an_outlier_among_published_rows_is_left_out_and_named(factor: float) -> None:
    rows = [row for row in load_profile("raspberrypi5").rows if row.key[3:] == ("ncnn", 4, "fp16")]
    others = [row for row in rows if row.model != "mobilenetv1_100"]
    (right,) = (row for row in rows if row.model == "mobilenetv1_100")
    ms = factor * right.p50_ms
    wrong = right.replaced(p50_ms=ms, low_ms=ms, high_ms=ms)
    found, clean, without = (by_proxy(some, reference(4), "onnxruntime") for some in ([*others, wrong], rows, others))
    assert (found.mean, found.half_width) == pytest.approx((without.mean, without.half_width))
    assert "without outliers: mobilenetv1_100 at 224 px" in found.how
    assert "outliers" not in clean.how
