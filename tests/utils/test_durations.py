from __future__ import annotations

import pytest

from tcs_edge.utils.durations import format_ms, format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (130, "2 min 10 s"),
        (599.4, "9 min 59 s"),
        (599.6, "10 min"),
        (1500, "25 min"),
        (3569, "59 min"),
        (3571, "1 h"),
        (7800, "2 h 10 min"),
        (86_369, "23 h 59 min"),
        (86_371, "1 d"),
        (273_600, "3 d 4 h"),
    ],
)
def test_format_seconds_chooses_the_unit(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(0.4441, "0.444"), (12.34, "12.3"), (999.7, "1000"), (2849.6, "2850")]
)
def test_milliseconds_have_no_exponent(milliseconds, text):
    assert format_ms(milliseconds) == text
