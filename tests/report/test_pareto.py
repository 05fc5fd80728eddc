from __future__ import annotations

from tcs_edge.latency.device import Latency
from tcs_edge.models.candidates import Candidate
from tcs_edge.report.pareto import HEIGHT, WIDTH, draw_pareto, pareto_lines
from tcs_edge.students.accuracy_estimate import AccuracyEstimate
from tcs_edge.students.choice import Assessment


def student(name: str, percent: float | None, ms: float | None) -> Assessment:
    latency = None if ms is None else Latency(ms, ms, ms, 4, "measured", "made up")
    expected = None if percent is None else AccuracyEstimate(percent, "table", "made up")
    return Assessment(Candidate(name, "cnn", 1.0, 10, 10.0), 96, 4.0, latency, expected)


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
