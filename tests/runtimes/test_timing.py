"""Percentiles of calls, on a clock that the test controls."""

from __future__ import annotations

import numpy as np
import pytest

from tcs_edge.runtimes.timing import LatencySample, time_interleaved, time_runner


class Clock:
    """Clock that advances only by the durations of the calls."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def call(self, *seconds: float):
        """Return a callable with these durations in order; the last one repeats."""
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_percentiles_equal_numpy():
    times = np.random.default_rng(0).exponential(0.01, 57)
    sample = LatencySample.of(times.tolist())
    expected = 1000 * np.percentile(times, [50, 90, 99])
    np.testing.assert_allclose([sample.p50_ms, sample.p90_ms, sample.p99_ms], expected)
    assert sample.runs == 57


def test_warm_up_calls_are_not_counted():
    clock = Clock()
    # two calls of warm-up, and the first call of the block
    sample = time_runner(clock.call(9.0, 9.0, 9.0, 0.002), warmup=2, repeats=5, clock=clock)
    assert (sample.p50_ms, sample.p99_ms, sample.runs) == (pytest.approx(2.0), pytest.approx(2.0), 5)


def test_one_slow_call_changes_only_the_tail():
    clock = Clock()
    sample = time_runner(clock.call(0.001, 0.001, 0.5, 0.001), warmup=0, repeats=20, clock=clock)
    assert sample.p50_ms == pytest.approx(1.0)
    assert sample.p99_ms > 100


def test_calls_alternate_in_blocks():
    order: list[str] = []
    runs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    samples = time_interleaved(runs, warmup=1, repeats=3, block=2)
    assert "".join(order) == "ab" + "aaa" + "bbb" + "aa" + "bb"
    assert {sample.runs for sample in samples.values()} == {3}


def test_a_slow_period_affects_all_runners_alike():
    clock = Clock()
    slow_minute = [0.001] * 11 + [0.003] * 11 + [0.001] * 11
    samples = time_interleaved({name: clock.call(*slow_minute) for name in "ab"}, 0, 30, clock=clock)
    assert samples["a"].p90_ms == pytest.approx(samples["b"].p90_ms)


@pytest.mark.parametrize("wrong", [{"repeats": 1}, {"warmup": -1}, {"block": 0}])
def test_invalid_numbers_of_calls_are_refused(wrong):
    with pytest.raises(ValueError, match="repeats"):
        time_interleaved({"a": lambda: None}, **({"warmup": 1, "repeats": 5, "block": 2} | wrong))


def test_a_real_clock_gives_positive_times():
    sample = time_runner(lambda: sum(range(1000)), warmup=1, repeats=10)
    assert 0 < sample.p50_ms <= sample.p90_ms <= sample.p99_ms < 1000
    assert sample.to_json() == {
        "p50_ms": sample.p50_ms, "p90_ms": sample.p90_ms, "p99_ms": sample.p99_ms, "runs": 10,
    }  # fmt: skip
