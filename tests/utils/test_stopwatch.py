"""Tests of wall time and peak memory of stages."""

from __future__ import annotations

import time

import numpy as np
import psutil
import pytest

from tcs_edge.utils.stopwatch import SAMPLE_SECONDS, Stopwatch


def test_stages_are_in_order_with_their_wall_time():
    watch = Stopwatch()
    with watch.stage("first"):
        time.sleep(0.2)
    with watch.stage("second"):
        pass
    assert [stage.name for stage in watch.stages] == ["first", "second"]
    assert 0.2 <= watch.stages[0].seconds < 5
    assert watch.stages[1].seconds < watch.stages[0].seconds


def test_memory_freed_before_the_end_counts():
    before = psutil.Process().memory_info().rss / 1e6
    watch = Stopwatch()
    with watch.stage("large"):
        block = np.ones(25_000_000)  # 200 MB
        time.sleep(6 * SAMPLE_SECONDS)
        del block
    (stage,) = watch.stages
    assert stage.peak_memory_mb > before + 150
    assert stage.to_json() == {"name": "large", "seconds": stage.seconds, "peak_memory_mb": stage.peak_memory_mb}


def test_a_stage_that_raised_is_not_recorded():
    watch = Stopwatch()
    with pytest.raises(KeyboardInterrupt), watch.stage("broken"):
        raise KeyboardInterrupt
    assert watch.stages == []
