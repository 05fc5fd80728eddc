from __future__ import annotations

from dataclasses import replace

from tcs_edge.latency.device import Latency
from tcs_edge.models.candidates import Candidate
from tcs_edge.report.pareto import (
    HEIGHT,
    WIDTH,
    draw_pareto,
    log_pareto_front,
    log_rejected,
    pareto_lines,
    rejected_lines,
)
from tcs_edge.students.accuracy_estimate import AccuracyEstimate
from tcs_edge.students.choice import Assessment, Choice, Miss


def student(name: str, percent: float | None, ms: float | None) -> Assessment:
    latency = None if ms is None else Latency(ms, ms, ms, 4, "measured", "made up")
    expected = None if percent is None else AccuracyEstimate(percent, "table", "made up")
    return Assessment(Candidate(name, "cnn", 1.0, 10, 10.0), 96, 4.0, 4.1, latency, expected)


FAST, GOOD, BEATEN, SLOW = student("fast", 60, 1), student("good", 70, 10), student("b", 65, 10), student("s", 80, 100)


def test_every_student_has_its_place_and_mark() -> None:
    lines = draw_pareto([GOOD, FAST, BEATEN], [SLOW], [FAST, GOOD], "good")
    chart = [line[8:].ljust(WIDTH) for line in lines[:HEIGHT]]
    assert chart[0][WIDTH - 1] == "x"
    assert chart[HEIGHT - 1][0] == "o"
    assert sorted("".join(chart).replace(" ", "")) == sorted("x.#o")
    row = next(index for index, line in enumerate(chart) if "#" in line)
    assert 0 < row < HEIGHT - 1
    assert chart[row].index("#") == round((WIDTH - 1) / 2)
    assert "80.0 %" in lines[0]
    assert "60.0 %" in lines[HEIGHT - 1]
    assert lines[HEIGHT].split() == ["1", "ms", "100", "ms"]


def test_what_is_not_known_is_not_drawn() -> None:
    assert draw_pareto([FAST, student("a", None, 3), student("b", 70, None)], [], [FAST], "fast") == []
    assert draw_pareto([FAST, FAST], [], [FAST], None)


def test_the_front_in_words() -> None:
    assert pareto_lines([FAST]) == ["  fast: 60.0 %, 1 ms (up to 1 ms, measured), 4.0 MB"]


def rejected(name: str, **ratios: float) -> Assessment:
    misses = tuple(Miss(limit, ratio, f"{limit} is {ratio:g} times the limit") for limit, ratio in ratios.items())
    return replace(student(name, 70, 10), misses=misses)


NEAR, FAR = rejected("near", latency=1.1, parameters=1.2), rejected("far", latency=5.0)


def test_rejected_students_are_counted_by_limit_and_the_nearest_is_named() -> None:
    assert rejected_lines([FAR, NEAR], 5) == [
        "rejected: 2 of 5 students (over a limit: latency 2, parameters 1)",
        "  nearest: near, latency is 1.1 times the limit and parameters is 1.2 times the limit",
    ]
    assert rejected_lines([], 5) == []


def test_details_of_rejected_students_are_logged_as_such(recorder) -> None:
    log_rejected(Choice(FAST, (FAST, GOOD, BEATEN), (FAR, NEAR)))
    assert len(recorder.said) == 2
    assert recorder.details == [
        "  rejected: far: latency is 5 times the limit",
        "  rejected: near: latency is 1.1 times the limit; near: parameters is 1.2 times the limit",
    ]


def test_of_a_long_front_the_most_accurate_are_shown(recorder) -> None:
    front = tuple(student(f"s{rank}", 60 + rank, 1 + rank) for rank in range(8))
    log_pareto_front(Choice(front[7], front[::-1], ()))
    head, *lines = recorder.said
    assert head == "Pareto-optimal students (accuracy, latency, size), the 5 most accurate of 8:"
    assert [line.split(":")[0].strip() for line in lines] == ["s3", "s4", "s5", "s6", "s7"]
    assert any("# chosen" in line for line in recorder.details)


def test_a_named_student_has_no_front(recorder) -> None:
    log_pareto_front(Choice(FAST, (FAST,), ()))
    assert recorder.said == recorder.details == []
