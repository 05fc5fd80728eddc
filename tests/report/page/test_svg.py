"""Axes and SVG elements of the charts."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tcs_edge.report.page.svg import Axis, element, padded, text

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
