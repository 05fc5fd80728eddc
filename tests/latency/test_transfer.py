from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from tcs_edge.latency.reference import reference, rows_of
from tcs_edge.latency.transfer import (
    NCNN_TO_ONNXRUNTIME,
    USUAL_NETWORKS,
    USUAL_SPREAD,
    by_facts,
    by_ncnn,
    by_rows,
    interval,
)
from tcs_edge.specs.profile import LatencyRow, load_profile
from tcs_edge.specs.target import load_target

MakeRow = Callable[..., LatencyRow]
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
    factor = found.factor("starnet_s1", 32, transformer_share=0.5, overhead=1.0)
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
    assert by_ncnn([], reference(1)) is None


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
    found = by_ncnn(rows, against)
    assert found is not None
    assert found.runtime_log == pytest.approx(share * math.log(NCNN_TO_ONNXRUNTIME))
    own = found.factor("resnet18", 224, 0.0, 0.0)
    published = next(row.p50_ms for row in rows if row.model == "resnet18")
    measured = against.latency("resnet18", 224).p50_ms
    assert math.exp(own.center) * measured == pytest.approx(published * math.exp(found.runtime_log))
    assert own.up < found.factor("starnet_s1", 224, 0.0, 0.0).up


def test_other_sizes_and_transformers_widen_the_interval() -> None:
    found = by_ncnn(rows_of(load_profile("raspberrypi4"), "ncnn", "fp32", 1), reference(1))
    assert found is not None
    plain, small = found.factor("starnet_s1", 224, 0.0, 0.0), found.factor("starnet_s1", 32, 0.0, 0.5)
    transformer = found.factor("starnet_s1", 224, 1.0, 0.0)
    assert small.up > plain.up
    assert small.down > small.up
    assert transformer.up > plain.up
    assert transformer.center - transformer.down == pytest.approx(plain.center - plain.down)
