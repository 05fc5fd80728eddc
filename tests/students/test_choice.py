from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcs_edge.errors import NoCandidate, UsageError
from tcs_edge.models.candidates import Candidate
from tcs_edge.specs.profile import LatencyRow, Profile, load_profile
from tcs_edge.specs.target import Limits, TargetSpec, list_targets, load_target
from tcs_edge.students.accuracy_estimate import AccuracyEstimate
from tcs_edge.students.choice import choose_student, limits_on, ranked

MakeRow = Callable[..., LatencyRow]
MakeProfile = Callable[..., Profile]

# These candidates are in no table, so a profile's rows are the only data on them.
FAST = Candidate("fast", "cnn", params_m=0.5, feature_dim=100, macs_m=10, top1=60.0)
GOOD = Candidate("good", "cnn", params_m=5.0, feature_dim=100, macs_m=100, top1=75.0)
BEST = Candidate("best", "cnn", params_m=20.0, feature_dim=100, macs_m=1000, top1=80.0)
ALL = (FAST, GOOD, BEST)


@pytest.fixture
def profile(make_row: MakeRow, make_profile: MakeProfile) -> Profile:
    return make_profile(
        make_row("fast", 5.0),
        make_row("good", 15.0, high_ms=25.0, source="estimated"),
        make_row("best", 50.0),
    )


def test_the_most_accurate_fitting_student_wins(target: TargetSpec, profile: Profile) -> None:
    choice = choose_student(target, profile, 96, 10, Limits(max_latency_ms=30), candidates=ALL)
    assert choice.winner.candidate is GOOD
    assert [a.candidate.name for a in choice.accepted] == ["good", "fast"]
    assert [a.reasons for a in choice.rejected] == [("best: 50 ms (up to 55 ms, measured) is over the 30 ms limit",)]


def test_the_latency_limit_applies_to_the_upper_end(target: TargetSpec, profile: Profile) -> None:
    choice = choose_student(target, profile, 96, 10, Limits(max_latency_ms=20), candidates=ALL)
    assert choice.winner.candidate is FAST
    assert choice.rejected[0].reasons == ("good: 15 ms (up to 25 ms, estimated) is over the 20 ms limit",)


def test_a_limit_is_inclusive(target: TargetSpec, profile: Profile) -> None:
    choice = choose_student(target, profile, 96, 10, Limits(max_latency_ms=25), candidates=ALL)
    assert choice.winner.candidate is GOOD


def test_the_faster_student_wins_a_tie(target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile) -> None:
    twins = [Candidate(name, "cnn", 1.0, 100, 10, top1=70.0) for name in ("slow", "quick")]
    profile = make_profile(make_row("slow", 9.0), make_row("quick", 8.0))
    assert choose_student(target, profile, 96, 10, Limits(), candidates=twins).winner.candidate.name == "quick"


def test_the_size_limit_bounds_the_largest_model_file(target: TargetSpec, profile: Profile) -> None:
    limits = Limits(max_size_mb=(GOOD.size_mb(10) + GOOD.largest_mb(10)) / 2)
    choice = choose_student(target, profile, 96, 10, limits, candidates=ALL)
    assert choice.winner.candidate is FAST, "the ONNX file of good fits, its OpenVINO model does not"
    reasons = [reason for found in choice.rejected for reason in found.reasons]
    assert "good: 20.40 MB (largest model file) is over the 20.329 MB limit" in reasons


def test_size_depends_on_the_number_of_classes(target: TargetSpec, profile: Profile) -> None:
    limits = Limits(max_size_mb=GOOD.largest_mb(10) + 0.01)
    assert choose_student(target, profile, 96, 10, limits, candidates=ALL).winner.candidate is GOOD
    assert choose_student(target, profile, 96, 1000, limits, candidates=ALL).winner.candidate is FAST


def test_parameters_can_be_limited(target: TargetSpec, profile: Profile) -> None:
    choice = choose_student(target, profile, 96, 10, Limits(max_params_m=1), candidates=ALL)
    assert choice.winner.candidate is FAST
    assert "best: 20.00 M parameters are over the 1 M limit" in choice.rejected[1].reasons


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (
            Limits(max_latency_ms=2),
            "no student fits raspberrypi4: the fastest, fast, takes 5 ms (up to 5.5 ms, measured) of 2 ms. "
            "Raise --max-latency-ms or lower --img-size.",
        ),
        (Limits(max_size_mb=1), "no student fits raspberrypi4: the smallest, fast, takes 2.40 MB of 1 MB (largest"),
        (Limits(max_params_m=0.1), "the nearest is ruled out (fast: 0.50 M parameters are over the 0.1 M"),
    ],
)
def test_error_without_a_fitting_student_names_the_nearest(
    target: TargetSpec, profile: Profile, limits: Limits, expected: str
) -> None:
    with pytest.raises(NoCandidate) as caught:
        choose_student(target, profile, 96, 10, limits, candidates=ALL)
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_nearest_student_has_the_lowest_upper_end(
    target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile
) -> None:
    profile = make_profile(make_row("fast", 6, high_ms=40, source="estimated"), make_row("good", 10, high_ms=12))
    with pytest.raises(NoCandidate, match=r"the fastest, good, takes 10 ms \(up to 12 ms, measured\) of 5 ms"):
        choose_student(target, profile, 96, 10, Limits(max_latency_ms=5), candidates=(FAST, GOOD))


def test_conflicting_limits_are_an_error(target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile) -> None:
    profile = make_profile(make_row("fast", 50.0), make_row("best", 5.0))
    limits = Limits(max_latency_ms=10, max_size_mb=10)
    with pytest.raises(NoCandidate, match="Loosen that limit"):
        choose_student(target, profile, 96, 10, limits, candidates=(FAST, BEST))


def test_a_named_student_without_latency_needs_no_limit(target: TargetSpec, profile: Profile) -> None:
    unlisted = Candidate("unlisted", "unknown", 1.0, 100, 10)
    with pytest.raises(UsageError, match="no latency data for unlisted"):
        choose_student(target, profile, 96, 10, Limits(max_latency_ms=9), candidates=(unlisted,))
    choice = choose_student(target, profile, 96, 10, Limits(), candidates=(unlisted,))
    assert choice.winner.latency is None


def test_an_unlisted_student_is_rejected_under_a_limit(target: TargetSpec, profile: Profile) -> None:
    unlisted = Candidate("unlisted", "unknown", 1.0, 100, 10, top1=99.0)
    limits = Limits(max_latency_ms=100)
    choice = choose_student(target, profile, 96, 10, limits, candidates=(*ALL, unlisted))
    assert choice.winner.candidate is BEST
    assert "nothing is known of its latency at 96 px" in choice.rejected[0].reasons[0]
    assert choose_student(target, profile, 96, 10, Limits(), candidates=(*ALL, unlisted)).winner.latency is None


def test_a_size_without_latencies_is_an_error(target: TargetSpec, profile: Profile) -> None:
    with pytest.raises(NoCandidate, match="no candidate's latency is known here"):
        choose_student(target, profile, 512, 10, Limits(max_latency_ms=9), candidates=ALL)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(1, 100), st.floats(1, 100), st.floats(0.1, 30))
def test_the_winner_meets_every_limit(
    target: TargetSpec, profile: Profile, max_latency_ms: float, max_size_mb: float, max_params_m: float
) -> None:
    limits = Limits(max_latency_ms=max_latency_ms, max_size_mb=max_size_mb, max_params_m=max_params_m)
    try:
        choice = choose_student(target, profile, 96, 10, limits, candidates=ALL)
    except NoCandidate:
        return
    assert len(choice.accepted) + len(choice.rejected) == len(ALL)
    for accepted in choice.accepted:
        assert accepted.latency is not None
        assert accepted.latency.high_ms <= max_latency_ms
        assert accepted.largest_mb <= max_size_mb
        assert accepted.candidate.total_params_m(10) <= max_params_m
    assert all(rejected.reasons for rejected in choice.rejected)


@pytest.mark.parametrize("name", list_targets())
@pytest.mark.parametrize("img_size", [32, 96, 224])
def test_every_shipped_target_has_a_student_within_its_limits(name: str, img_size: int) -> None:
    target = load_target(name)
    choice = choose_student(target, load_profile(target.profile), img_size, 10, target.limits)
    assert choice.winner.latency is not None
    assert target.limits.max_latency_ms is not None
    assert choice.winner.latency.high_ms <= target.limits.max_latency_ms


def test_the_front_excludes_a_beaten_student(target: TargetSpec, make_row: MakeRow, make_profile: MakeProfile) -> None:
    names = {"fast": 5.0, "good": 15.0, "best": 50.0, "beaten": 16.0}
    beaten = Candidate("beaten", "cnn", params_m=6.0, feature_dim=100, macs_m=100, top1=74.0)
    profile = make_profile(*(make_row(name, ms) for name, ms in names.items()))
    choice = choose_student(target, profile, 96, 10, Limits(), candidates=(*ALL, beaten))
    assert [found.candidate.name for found in choice.front] == ["fast", "good", "best"]
    assert len(choice.accepted) == 4


def test_another_accuracy_estimate_changes_the_ranking(target: TargetSpec, profile: Profile) -> None:
    def smallest_first(candidate: Candidate) -> AccuracyEstimate | None:
        return None if candidate is GOOD else AccuracyEstimate(90 - candidate.params_m, "table", "made up")

    choice = choose_student(target, profile, 96, 10, Limits(), candidates=ALL, expect=smallest_first)
    assert [found.candidate.name for found in choice.accepted] == ["fast", "best", "good"]
    assert choice.winner.expected == AccuracyEstimate(89.5, "table", "made up")
    assert GOOD not in [found.candidate for found in choice.front]


def test_choice_by_table_takes_less_than_two_seconds() -> None:
    code = (
        "from tcs_edge.specs.profile import load_profile; from tcs_edge.specs.target import load_target, Limits;"
        "from tcs_edge.students.choice import choose_student; t = load_target('raspberrypi4');"
        "choose_student(t, load_profile(t.profile), 200, 10, t.limits); import time; print(time.process_time())"
    )
    # CPU time, since wall time depends on other work of the machine.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2


def test_a_deeper_search_ranks_first_and_alone_forms_the_front(target: TargetSpec, profile: Profile) -> None:
    choice = choose_student(target, profile, 96, 10, Limits(max_latency_ms=30), candidates=ALL)
    found = {
        "fast": AccuracyEstimate(40.0, "alignment", "looked at", depth=1),
        "good": AccuracyEstimate(75.0, "table", "published"),
    }
    again = ranked(choice, lambda sized: found[sized.candidate.name])
    assert [a.candidate.name for a in again.accepted] == ["fast", "good"]
    assert again.winner.candidate is FAST
    assert again.search == "alignment"
    assert [a.candidate.name for a in again.front] == ["fast"]
    assert again.rejected == choice.rejected


def test_misses_give_the_limit_and_the_ratio(target: TargetSpec, profile: Profile) -> None:
    choice = choose_student(target, profile, 96, 10, Limits(max_latency_ms=20, max_params_m=10), candidates=ALL)
    misses = {found.label: [(miss.limit, round(miss.ratio, 2)) for miss in found.misses] for found in choice.rejected}
    assert misses == {"good": [("latency", 1.25)], "best": [("latency", 2.75), ("parameters", 2.0)]}


def test_given_limits_override_the_targets_limits(target: TargetSpec) -> None:
    limits = limits_on(target, Limits(max_latency_ms=7, max_params_m=2))
    assert limits.max_latency_ms == 7
    assert limits.max_params_m == 2
    assert limits.max_size_mb == target.limits.max_size_mb
