from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcs_edge.errors import UsageError
from tcs_edge.latency.device import Latency, device_latencies
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.specs.profile import LatencyRow, Profile, load_profile
from tcs_edge.specs.target import TargetSpec, list_targets, load_target

MakeRow = Callable[..., LatencyRow]
MakeProfile = Callable[..., Profile]


def latency(target: TargetSpec, profile: Profile, model: str, img_size: int, **options: object) -> Latency:
    return device_latencies(target, profile, **options).latency(model, img_size)  # type: ignore[arg-type]


def shipped(name: str, model: str, img_size: int, **options: object) -> Latency:
    target = load_target(name)
    return latency(target, load_profile(target.profile), model, img_size, **options)


def test_a_row_of_this_size_is_unchanged(target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile) -> None:
    found = latency(target, make_profile(make_row("a", 10.0, high_ms=14.0)), "a", 96)
    assert (found.p50_ms, found.high_ms, found.source, found.citation) == (10.0, 14.0, "measured", "made up")


def test_an_unlisted_model_between_two_sizes_follows_a_power_law(
    target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile
) -> None:
    def law(size: int) -> float:
        return 0.01 * size**1.7

    profile = make_profile(*(make_row("a", law(size), img_size=size) for size in (64, 128)))
    found = latency(target, profile, "a", 100)
    assert found.p50_ms == pytest.approx(law(100))
    assert found.source == "estimated"
    assert "64 and 128 px" in found.citation
    assert found.high_ms > 1.1 * found.p50_ms
    assert found.low_ms < found.p50_ms / 1.1


def test_a_candidate_between_two_sizes_follows_its_operators(
    target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile
) -> None:
    """A device that is three times slower than the reference at two sizes is so between and near them."""
    reference = load_target("x86-avx512")

    def slow(size: int) -> float:
        return 3 * shipped("x86-avx512", "resnet18", size, threads=1).p50_ms

    rows = [make_row("resnet18", slow(size), img_size=size, threads=1) for size in (64, 128)]
    between = latency(target, make_profile(*rows), "resnet18", 96, threads=1)
    beyond = latency(target, make_profile(*rows), "resnet18", 160, threads=1)
    assert reference.name == "x86-avx512"
    assert between.p50_ms == pytest.approx(slow(96), rel=0.15)
    assert beyond.p50_ms == pytest.approx(slow(160), rel=0.25)
    assert beyond.high_ms / beyond.p50_ms > between.high_ms / between.p50_ms > 1


def test_a_measured_row_changes_the_estimates_of_other_students(
    target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile
) -> None:
    unmeasured = latency(target, load_profile("raspberrypi4"), "starnet_s1", 96)
    slow = 5 * shipped("x86-avx512", "resnet18", 96, threads=2).p50_ms
    found = latency(target, make_profile(make_row("resnet18", slow, threads=4)), "starnet_s1", 96)
    assert found.p50_ms == pytest.approx(5 * shipped("x86-avx512", "starnet_s1", 96, threads=2).p50_ms)
    assert found.source == "estimated"
    assert found.p50_ms != pytest.approx(unmeasured.p50_ms)


def test_fewer_threads_are_used_for_more(target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile) -> None:
    profile = make_profile(make_row("a", 10.0, threads=1), make_row("a", 4.0, threads=4))
    assert latency(target, profile, "a", 96, threads=3).p50_ms == 10.0
    assert latency(target, profile, "a", 96, threads=8).p50_ms == 4.0


def test_more_threads_are_not_used_for_fewer(target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile) -> None:
    with pytest.raises(UsageError, match="no latency data for a"):
        latency(target, make_profile(make_row("a", 4.0, threads=4)), "a", 96, threads=1)


@pytest.mark.parametrize("img_size", [32, 200])
def test_an_unlisted_model_has_no_estimate_beyond_its_rows(
    target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile, img_size: int
) -> None:
    profile = make_profile(make_row("a", 1.0, img_size=64), make_row("a", 2.0, img_size=128))
    with pytest.raises(UsageError, match=f"known from 64 to 128 px, not at {img_size} px"):
        latency(target, profile, "a", img_size)


def test_a_size_beyond_the_operator_tables_is_an_error() -> None:
    with pytest.raises(UsageError, match="lcnet_050 on raspberrypi4 is known from 32 to 256 px, not at 512 px"):
        shipped("raspberrypi4", "lcnet_050", 512)


def test_error_names_an_unknown_model(target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile) -> None:
    with pytest.raises(UsageError, match="no latency data for b"):
        latency(target, make_profile(make_row("a", 1.0)), "b", 96)


def test_a_precision_or_runtime_without_evidence_is_an_error() -> None:
    assert shipped("raspberrypi4", "resnet18", 224, runtime="ncnn").source == "published"
    assert shipped("raspberrypi4", "resnet18", 224).source == "estimated"
    assert shipped("raspberrypi4", "resnet18", 224, precision="int8").source == "estimated"
    with pytest.raises(UsageError, match="no row with onnxruntime in int8"):
        shipped("x86-avx512", "resnet18", 224, precision="int8")
    with pytest.raises(UsageError, match="no row with ncnn in fp32"):
        shipped("x86-avx512", "resnet18", 224, runtime="ncnn")


@pytest.mark.parametrize(("board", "threads"), [("raspberrypi5", 1), ("raspberrypi5", 4), ("jetson-orin-nano", 1)])
@pytest.mark.parametrize("model", ["resnet18", "resnet34", "resnet10t", "lcnet_050"])
def test_no_estimate_is_below_the_processors_peak_rate(board: str, threads: int, model: str) -> None:
    """ncnn's rows use fp16 and Winograd's algorithm, so the raw estimate of resnet18 is 1.7 times the fp32 peak."""
    found = shipped(board, model, 224, threads=threads)
    cpu = load_target(board).cpu
    macs = CANDIDATES[model].macs_m * 1e6
    least_ms = 1e3 * macs / (threads * (cpu.fp32_macs_per_cycle or 8) * (cpu.boost_ghz or cpu.frequency_ghz) * 1e9)
    assert found.high_ms >= found.p50_ms >= found.low_ms >= 0.999999 * least_ms
    raised = "at the peak rate of" in found.citation
    assert raised == (found.low_ms == pytest.approx(least_ms))
    if model != "lcnet_050" and threads == 1:
        assert raised
        assert found.high_ms > 1.2 * found.p50_ms, "a raised estimate must keep an interval"


def test_a_measured_row_is_not_raised(target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile) -> None:
    """Measured rows are checked when the profile is loaded, with a bound that allows for faster algorithms."""
    assert latency(target, make_profile(make_row("resnet18", 0.01)), "resnet18", 96).p50_ms == 0.01


def test_openvino_has_its_own_cost_model_on_the_reference() -> None:
    target, profile = load_target("x86-avx512"), load_profile("x86-avx512")
    rows = [row for row in profile.rows if row.runtime == "openvino" and row.threads == 1]
    assert {row.model for row in rows} == set(CANDIDATES)
    found = latency(target, profile, "googlenet", 224, runtime="openvino", threads=1)  # not a candidate
    assert found.source == "estimated"
    assert "openvino" in found.citation
    row = next(row for row in rows if (row.model, row.img_size) == ("resnet18", 128))
    exact = latency(target, profile, "resnet18", 128, runtime="openvino", threads=1)
    assert (exact.p50_ms, exact.source) == (row.p50_ms, "measured")


def test_openvino_on_a_device_uses_onnxruntimes_factor_with_a_wider_interval(
    target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile
) -> None:
    slow = 5 * shipped("x86-avx512", "resnet18", 96, threads=1).p50_ms
    profile = make_profile(make_row("resnet18", slow, threads=1))
    found, own = (
        latency(target, profile, "starnet_s1", 96, threads=1, runtime=runtime)
        for runtime in ("openvino", "onnxruntime")
    )
    reference = shipped("x86-avx512", "starnet_s1", 96, threads=1, runtime="openvino")
    assert found.p50_ms == pytest.approx(5 * reference.p50_ms)
    assert "assumed for openvino within" in found.citation
    assert found.high_ms / found.low_ms > own.high_ms / own.low_ms


@pytest.mark.parametrize(("board", "expected_ms"), [("raspberrypi5", 8.0), ("raspberrypi4", 12.0)])
def test_openvino_rows_are_those_of_the_arithmetic_on_the_device(
    make_row: MakeRow, make_profile: MakeProfile, board: str, expected_ms: float
) -> None:
    """On a processor with fp16 arithmetic, OpenVINO runs an fp32 file in fp16 by default."""
    rows = [
        make_row("resnet18", ms, img_size=224).replaced(runtime="openvino", precision=precision)
        for ms, precision in ((12.0, "fp32"), (8.0, "fp16"))
    ]
    found = latency(load_target(board), make_profile(*rows), "resnet18", 224, runtime="openvino")
    assert found.p50_ms == expected_ms


def test_measured_rows_replace_estimated_rows(make_row: MakeRow, make_profile: MakeProfile) -> None:
    target = load_target("x86-avx2")
    guess = make_row("lcnet_050", 99.0, threads=2, source="estimated")
    unlisted = make_row("unlisted", 50.0, threads=2, source="estimated")
    one = latency(target, make_profile(guess), "lcnet_050", 96)
    both = latency(target, make_profile(guess, make_row("resnet18", 9.0, threads=2)), "lcnet_050", 96)
    kept = latency(target, make_profile(unlisted, make_row("resnet18", 9.0, threads=2)), "unlisted", 96)
    assert one.p50_ms == 99.0
    assert both.p50_ms < 5
    assert kept.p50_ms == 50.0


def test_a_target_without_rows_has_wide_intervals(make_row: MakeRow, make_profile: MakeProfile) -> None:
    """The interval without ncnn's rows must include the estimate from ncnn's rows."""
    bare = make_profile(make_row("unlisted", 1.0, threads=1))
    for name in ("raspberrypi3", "raspberrypi4", "raspberrypi5", "intel-n5105", "jetson-orin-nano"):
        board = load_target(name)
        found = latency(board, bare, "mobilenetv2_100", 224, runtime="onnxruntime", threads=1)
        expected = shipped(name, "mobilenetv2_100", 224, threads=1)
        assert found.source == "estimated"
        assert "by the processors' facts alone" in found.citation or "measured there" in found.citation
        assert found.low_ms < expected.p50_ms < found.high_ms
        assert found.high_ms / found.low_ms > expected.high_ms / expected.low_ms


@pytest.mark.parametrize("name", list_targets())
@pytest.mark.parametrize("img_size", [32, 100, 224, 256])
def test_every_target_has_a_latency_for_every_candidate(name: str, img_size: int) -> None:
    target = load_target(name)
    device = device_latencies(target, load_profile(target.profile))
    for model in CANDIDATES:
        found = device.latency(model, img_size)
        assert 0 < found.low_ms <= found.p50_ms <= found.high_ms < math.inf
        assert found.citation


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(32, 224), st.floats(0.1, 1e3), st.floats(0.1, 1e3))
def test_an_interpolation_is_between_its_neighbors(
    target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile, img_size: int, small: float, large: float
) -> None:
    profile = make_profile(make_row("a", small, img_size=32), make_row("a", large, img_size=224))
    found = latency(target, profile, "a", img_size)
    assert min(small, large) * 0.999999 <= found.p50_ms <= max(small, large) * 1.000001
    assert 0 < found.low_ms <= found.p50_ms <= found.high_ms < math.inf


@pytest.mark.parametrize("board", ["raspberrypi4", "raspberrypi3", "raspberrypi-zero2w", "intel-n5105"])
def test_an_estimates_interval_includes_ncnns_published_latency(board: str) -> None:
    """On boards without fp16 arithmetic, the interval must include equal speed of both runtimes."""
    for row in load_profile(board).rows:
        if row.runtime == "ncnn" and row.precision == "fp32" and row.model in CANDIDATES:
            found = shipped(board, row.model, row.img_size, threads=row.threads)
            assert found.low_ms <= row.p50_ms * 1.001
