"""Charts of the report."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.report.page.charts import (
    Series,
    choice_chart,
    lines_chart,
    selection_series,
    spectrum_chart,
)
from tcs_edge.report.page.environment import significant
from tcs_edge.report.page.plane import Point, pareto_front
from tcs_edge.report.page.svg import text_width
from tcs_edge.runs.documents import (
    CandidateRecord,
    ChoiceRecord,
    CoordinatesRecord,
    RoundRecord,
    SelectionRecord,
)
from tcs_edge.runs.schema import LatencyRecord

AMOUNTS = st.floats(0.1, 100)


def chosen_from(*rows: tuple[str, float, float], chosen: str) -> ChoiceRecord:
    return ChoiceRecord(
        target="raspberrypi4",
        named=False,
        ranking="-",
        img_size=32,
        limits={"max_latency_ms": 3.0},
        candidates=tuple(
            CandidateRecord(
                name=name, chosen=name == chosen, params_m=1, size_mb=1, top1=top1,
                latency=LatencyRecord(
                    p50_ms=ms, low_ms=ms, high_ms=2 * ms, threads=1, source="measured", citation="-"
                ),
                reasons=() if name == chosen else ("too slow",),
            )
            for name, ms, top1 in rows
        ),
    )  # fmt: skip


def words(drawing: str) -> list[str]:
    return [found.text or "" for found in ElementTree.fromstring(drawing).iter("text")]


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=30))
def test_no_point_beats_the_front_and_the_front_beats_all_others(rows):
    points = [Point(str(row), ms, ms, accuracy, "fits") for row, (ms, accuracy) in enumerate(rows)]
    front = pareto_front(points)
    for point in points:
        better = [
            other
            for other in points
            if (other.latency_ms <= point.latency_ms and other.accuracy > point.accuracy)
            or (other.latency_ms < point.latency_ms and other.accuracy >= point.accuracy)
        ]
        alike = [other for other in front if (other.latency_ms, other.accuracy) == (point.latency_ms, point.accuracy)]
        assert bool(better) != bool(alike)


@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_the_chosen_student_the_limit_and_every_mark_are_drawn(kind):
    rows = [(f"student_{index}", 1.0 + index / 10, 60.0 + index) for index in range(20)]
    chart = choice_chart(chosen_from(*rows, chosen="student_7"))
    drawn = getattr(chart, kind)
    tree = ElementTree.fromstring(drawn)
    assert sum("mark" in found.get("class", "").split() for found in tree.iter("circle")) == 20
    assert "student_7" in words(drawn)
    assert "limit 3 ms" in words(drawn)
    told = [found.text for found in tree.iter("title")]
    assert "student_0: 60.0 %, 1 ms, up to 2 ms (rejected)" in told


def test_the_front_has_only_students_that_fit():
    rows = chosen_from(("fast", 1, 60), ("b", 2, 70), ("better", 1.5, 80), chosen="b")
    fits = rows.candidates[0].model_copy(update={"reasons": ()})
    chart = choice_chart(rows.model_copy(update={"candidates": (fits, *rows.candidates[1:])}))
    tree = ElementTree.fromstring(chart.wide)
    (front,) = [found.get("d") for found in tree.iter("path") if found.get("class") == "front"]
    places = {
        found.find("title").text.split(":")[0]: found.find("circle").get("cy") for found in tree.iter("g")
        if found.find("title") is not None
    }  # fmt: skip
    heights = {float(corner.split(" ")[1]) for corner in front[1:].split("L")}
    assert {round(float(places[name]), 1) for name in ("fast", "b")} == {round(height, 1) for height in heights}


def test_without_a_fitting_student_there_is_no_front():
    rows = chosen_from(("a", 1, 60), ("b", 2, 70), chosen="-")
    assert 'class="front"' not in choice_chart(rows).wide


def test_the_chosen_student_has_its_own_mark():
    chart = choice_chart(chosen_from(("a", 1, 60), ("b", 2, 70), chosen="b"))
    circles = list(ElementTree.fromstring(chart.wide).iter("circle"))
    assert [found.get("class") for found in circles] == ["mark rejected", "mark chosen"]
    assert float(circles[1].get("cx")) > float(circles[0].get("cx"))
    assert float(circles[1].get("cy")) < float(circles[0].get("cy"))


def left_of(found: ElementTree.Element) -> float:
    return float(found.get("x")) - (text_width(found.text) if found.get("text-anchor") == "end" else 0.0)


@pytest.mark.parametrize("kind", ["wide", "narrow"])
@pytest.mark.parametrize("limit", [0.05, 3.0, 90_000.0])
def test_no_name_covers_the_label_of_the_limit(kind, limit):
    rows = [(f"student_{index}", limit * 1.3 ** (index - 4), 90.0 - index / 9) for index in range(9)]
    record = chosen_from(*rows, chosen="student_0").model_copy(update={"limits": {"max_latency_ms": limit}})
    texts = ElementTree.fromstring(getattr(choice_chart(record), kind)).iter("text")
    boxes = [
        (left_of(found), float(found.get("y")), text_width(found.text), found.text) for found in texts
        if "mark-label" in found.get("class")
    ]  # fmt: skip
    (label,) = [box for box in boxes if box[3].startswith("limit")]
    assert label[3] == f"limit {significant(limit, 'ms')}"
    for left, top, width, name in boxes:
        apart = abs(top - label[1]) >= 11 or left >= label[0] + label[2] or label[0] >= left + width
        assert apart or name == label[3], name


def test_one_student_has_no_chart():
    assert choice_chart(chosen_from(("a", 1, 60), chosen="a")) is None


def test_lines_rise_with_their_numbers():
    chart = lines_chart([Series("up", ((1, 0.0), (2, 50.0), (3, 100.0)))], "accuracy, %", "rises")
    (line,) = (found for found in ElementTree.fromstring(chart.wide).iter("path"))
    heights = [float(pair.split()[1]) for pair in line.get("d").removeprefix("M").split("L")]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == 3


def test_only_several_lines_have_a_legend():
    two = [Series("loss", ((1, 1.0),)), Series("<b>", ((1, 2.0),))]
    assert {"loss", "<b>"} <= set(words(lines_chart(two, "y", "label").narrow))
    assert "loss" not in words(lines_chart(two[:1], "y", "label").narrow)
    assert lines_chart([Series("none", ())], "y", "label") is None


def test_the_spectrum_draws_every_axis_once_and_marks_kept_ones():
    record = CoordinatesRecord(dims=6, eigenvalues=tuple(2.0**-axis for axis in range(8)))
    drawn = ElementTree.fromstring(spectrum_chart(record, frozenset({0, 4})).wide)
    bars = {found.get("class"): found.get("d").count("M") for found in drawn.iter("path")}
    assert bars == {"axis-kept": 4, "axis-removed": 2, "axis-unused": 2, "axis-strip": 4}


def test_a_spectrum_without_variance_is_still_drawn():
    record = CoordinatesRecord(dims=2, eigenvalues=(0.0, 0.0, 0.0))
    assert "<svg" in spectrum_chart(record, frozenset()).wide


def test_every_round_lowers_the_number_of_coordinates():
    record = CoordinatesRecord(dims=6, eigenvalues=(1.0,) * 6)
    rounds = (RoundRecord(step=2, removed=(0, 1), scores=()), RoundRecord(step=5, removed=(4,), scores=()))
    points = selection_series(record, SelectionRecord(rounds=rounds)).points
    assert points == ((0, 6), (2, 6), (2, 4), (5, 4), (5, 3))
