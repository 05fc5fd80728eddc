"""One visit: number of runs, interrupted runs, and cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcs_edge.profiling.device import timing
from tcs_edge.profiling.device.timing import (
    MAX_RUNS,
    MIN_RUNS,
    WARMUP_RUNS,
    fastest_cores,
    pinned,
    time_runs,
    undisturbed,
)


def test_a_slow_call_has_the_fewest_runs_after_its_warm_up() -> None:
    calls: list[int] = []
    samples = time_runs(lambda: calls.append(1), seconds=0.0)
    assert len(calls) == WARMUP_RUNS + MIN_RUNS
    assert 0 < len(samples) <= MIN_RUNS


def test_a_fast_call_has_the_most_runs() -> None:
    calls: list[int] = []
    time_runs(lambda: calls.append(1), seconds=60.0)
    assert len(calls) == WARMUP_RUNS + MAX_RUNS


def test_samples_are_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(timing, "_interruptions", lambda: 0)
    assert set(time_runs(lambda: None, seconds=0.0)) == {1000.0}


def test_interrupted_runs_are_left_out_if_enough_others_remain() -> None:
    assert undisturbed([(0, 1.0), (2, 9.0), (0, 1.1)]) == [1.0, 1.1]


def test_the_least_interrupted_third_is_kept_if_all_were_interrupted() -> None:
    samples = [(3, 3.0), (1, 1.2), (5, 5.0), (1, 1.1), (4, 4.0), (6, 6.0)]
    assert undisturbed(samples) == [1.2, 1.1]


def test_waiting_time_is_summed_over_the_threads(tmp_path: Path) -> None:
    for task, waited_ns in (("1", 250_000_000), ("2", 500_000_000)):
        (tmp_path / task).mkdir()
        (tmp_path / task / "schedstat").write_text(f"999 {waited_ns} 7\n")
    (tmp_path / "3").mkdir()
    assert timing.seconds_waited(tmp_path) == 0.75
    assert timing.seconds_waited(tmp_path / "nothing") == 0.0


def test_the_fastest_cores_are_used(tmp_path: Path) -> None:
    for core, khz in enumerate([1_800_000, 1_800_000, 2_420_000, 2_960_000]):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{khz}\n")
    assert fastest_cores([0, 1, 2, 3], 1, tmp_path) == {3}
    assert fastest_cores([0, 1, 2, 3], 2, tmp_path) == {2, 3}
    assert fastest_cores([0, 1], 1, tmp_path / "nothing") == {0}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_pinning_ends_after_the_block() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
