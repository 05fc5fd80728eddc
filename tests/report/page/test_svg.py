"""Axes and SVG elements of the charts."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tcs_edge.report.page.svg import Axis, element, padded, text, text_width, tick_label

NUMBERS = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-6, 1e6)


@given(NUMBERS, NUMBERS)
def test_linear_ticks_are_few_round_and_inside(low, high):
    assume(high - low > 1e-3 * max(1.0, abs(low), abs(high)))
    ticks = Axis(low, high, 0, 100).ticks()
    assert 1 <= len(ticks) <= 8
    slack = 1e-6 * (high - low)
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    steps = {round(after - before, 12) for before, after in pairwise(ticks)}
    for step in steps:
        assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 3) in (1, 2, 5, 10)


@given(POSITIVE, st.floats(1.2, 1e6))
def test_logarithmic_ticks_are_few_and_inside(low, factor):
    high = low * factor
    ticks = Axis(low, high, 0, 100, log=True).ticks()
    assert len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)


@given(POSITIVE, st.floats(1.05, 1e6), st.floats(60, 760))
def test_labels_of_a_logarithmic_axis_do_not_overlap(low, factor, width):
    axis = Axis(low, low * factor, 0, width, log=True)
    ticks = axis.spaced_ticks()
    for before, after in pairwise(ticks):
        half = (text_width(tick_label(before)) + text_width(tick_label(after))) / 2
        assert axis(after) - axis(before) > half
    assert all(low <= tick <= low * factor for tick in ticks)


@pytest.mark.parametrize(
    ("low", "high", "width", "labels"),
    [
        (0.4, 60, 760, ["0.5", "1", "2", "5", "10", "20", "50"]),
        (0.02, 0.9, 360, ["0.02", "0.05", "0.1", "0.2", "0.5"]),
        (3000, 60000, 360, ["5000", "10,000", "20,000", "50,000"]),
        (3, 4.5, 360, ["3", "3.2", "3.4", "3.6", "3.8", "4", "4.2", "4.4"]),
        (0.01, 2000, 360, ["0.01", "0.1", "1", "10", "100", "1000"]),
    ],
)
def test_a_logarithmic_axis_has_steps_of_1_2_and_5_where_they_fit(low, high, width, labels):
    assert [tick_label(tick) for tick in Axis(low, high, 0, width, log=True).spaced_ticks()] == labels


def test_a_logarithmic_axis_has_a_mark_at_every_step():
    axis = Axis(0.4, 60, 0, 100, log=True)
    assert axis.steps() == pytest.approx([0.5, 1, 2, 5, 10, 20, 50])
    assert Axis(0.4, 60, 0, 100).steps() == []


@given(st.lists(POSITIVE, min_size=1), st.booleans())
def test_padding_leaves_room_on_both_sides(values, log):
    low, high = padded(values, log=log)
    assert low < min(values) <= max(values) < high
    assert low > 0 or not log


def test_an_axis_maps_ends_and_middle_and_clips_outer_values():
    axis = Axis(1, 100, 10, 110, log=True)
    assert [axis(1), axis(10), axis(100)] == pytest.approx([10, 60, 110])
    assert (axis(0), axis(1e9)) == (10, 110)


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_any_text_is_escaped_as_attribute_and_child(words):
    drawn = ElementTree.fromstring(element("g", text(1, 2, words), aria_label=words, class_="mark"))
    assert drawn.attrib == {"aria-label": words, "class": "mark"}
    assert (drawn[0].text or "") == words
    assert len(drawn) == 1
