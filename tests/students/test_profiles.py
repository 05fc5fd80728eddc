from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcs_edge.errors import UsageError
from tcs_edge.specs.profile import LatencyRow, Profile, load_profile
from tcs_edge.students.profiles import latency

MakeRow = Callable[..., LatencyRow]
MakeProfile = Callable[..., Profile]


def test_a_known_size_is_read_as_it_stands(make_row: MakeRow, make_profile: MakeProfile) -> None:
    found = latency(make_profile(make_row("a", 10.0, high_ms=14.0)), "a", 96, threads=4)
    assert (found.p50_ms, found.high_ms, found.source, found.citation) == (10.0, 14.0, "measured", "made up")


def test_a_size_between_follows_a_power_law_and_widens(make_row: MakeRow, make_profile: MakeProfile) -> None:
    def law(size: int) -> float:
        return 0.01 * size**1.7

    profile = make_profile(*(make_row("a", law(size), img_size=size) for size in (64, 128)))
    found = latency(profile, "a", 100, threads=4)
    assert found.p50_ms == pytest.approx(law(100))
    assert found.source == "estimated"
    assert "between 64 and 128 px" in found.citation
    assert found.high_ms > 1.1 * found.p50_ms
    assert found.low_ms < found.p50_ms / 1.1


def test_fewer_threads_stand_in_for_more(make_row: MakeRow, make_profile: MakeProfile) -> None:
    profile = make_profile(make_row("a", 10.0, threads=1), make_row("a", 4.0, threads=4))
    assert latency(profile, "a", 96, threads=3).p50_ms == 10.0
    assert latency(profile, "a", 96, threads=8).p50_ms == 4.0


def test_more_threads_never_stand_in_for_fewer(make_row: MakeRow, make_profile: MakeProfile) -> None:
    with pytest.raises(UsageError, match=r"1 threads or fewer\. Known: 4"):
        latency(make_profile(make_row("a", 4.0, threads=4)), "a", 96, threads=1)


@pytest.mark.parametrize("img_size", [32, 200])
def test_sizes_outside_are_not_guessed(make_row: MakeRow, make_profile: MakeProfile, img_size: int) -> None:
    profile = make_profile(make_row("a", 1.0, img_size=64), make_row("a", 2.0, img_size=128))
    with pytest.raises(UsageError, match=f"knows a at 64 to 128 px, not at {img_size} px"):
        latency(profile, "a", img_size, threads=4)


def test_an_unknown_model_is_named(make_row: MakeRow, make_profile: MakeProfile) -> None:
    with pytest.raises(UsageError, match="does not know b"):
        latency(make_profile(make_row("a", 1.0)), "b", 96, threads=4)


def test_another_runtime_is_no_answer() -> None:
    profile = load_profile("raspberrypi4")
    assert latency(profile, "resnet18", 224, 4, runtime="ncnn").source == "published"
    assert latency(profile, "resnet18", 224, 4).source == "estimated"
    with pytest.raises(UsageError, match="openvino"):
        latency(profile, "resnet18", 224, 4, runtime="openvino")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(32, 224), st.floats(0.1, 1e3), st.floats(0.1, 1e3))
def test_an_interpolation_lies_between_its_neighbours(
    make_row: MakeRow, make_profile: MakeProfile, img_size: int, small: float, large: float
) -> None:
    profile = make_profile(make_row("a", small, img_size=32), make_row("a", large, img_size=224))
    found = latency(profile, "a", img_size, threads=4)
    assert min(small, large) * 0.999999 <= found.p50_ms <= max(small, large) * 1.000001
    assert 0 < found.low_ms <= found.p50_ms <= found.high_ms < math.inf


@pytest.mark.parametrize("board", ["raspberrypi4", "raspberrypi3", "raspberrypi-zero2w", "intel-n5105"])
def test_an_estimate_band_holds_what_ncnn_publishes(board: str) -> None:
    """On boards without fp16 arithmetic an estimate must not exclude that both runtimes are equally fast."""
    profile = load_profile(board)
    for row in profile.rows:
        if row.source == "published" and row.precision == "fp32":
            found = latency(profile, row.model, row.img_size, row.threads)
            assert found.low_ms <= row.p50_ms * 1.001
