"""Interleaved rounds, and latencies refused as noise or throttling."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.profiling.device import rounds
from tcs_edge.profiling.device.graphs import Key
from tcs_edge.profiling.device.results import row, shown
from tcs_edge.profiling.device.rounds import PATIENCE, Plan, State, agreeing, objection, visits

KEYS = [Key(model, 96, "onnxruntime", 1) for model in "abc"]
PLAN = Plan(rounds=5, seconds=0.01, max_spread=0.15, retries=2)
CALM = [0.0] * 5


@pytest.mark.parametrize("level", [0.01, 1.0, 1000.0])
def test_agreeing_rounds_are_recorded(level: float) -> None:
    steady = [[level * factor] * 30 for factor in (1.0, 1.02, 0.98, 1.05, 0.97)]
    assert objection(steady, CALM, PLAN) is None


def test_too_few_agreeing_rounds_are_noise() -> None:
    reason = objection([[1.0] * 30] * 2 + [[1.5] * 30] + [[1.0] * 30] * 2, CALM, PLAN)
    assert reason == "noise: the medians of the 5 rounds differ by 50% (limit 15%)"


def test_slow_rounds_do_not_count_if_enough_others_agree() -> None:
    visits = [[1.0] * 30, [1.7] * 30, [1.02] * 30, [1.8] * 30, [0.98] * 30, [1.0] * 30, [1.05] * 30]
    assert agreeing(visits, 0.15) == [0, 2, 4, 5, 6]
    assert objection(visits, [0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0], PLAN) is None


def test_a_machine_that_is_slow_at_the_end_is_throttling() -> None:
    reason = objection([[1.0] * 30] * 5 + [[1.4] * 30], [*CALM, 0.0], PLAN)
    assert reason == "throttling: the last round is the slowest, 40% above the fastest (limit 15%)"


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=12), st.floats(0.01, 1.0))
def test_agreeing_rounds_are_the_fastest_and_within_the_limit(medians: list[float], limit: float) -> None:
    kept = [medians[index] for index in agreeing([[ms] for ms in medians], limit)]
    assert sorted(kept) == sorted(medians)[: len(kept)]
    assert max(kept) - min(kept) <= limit * statistics.median(kept) * (1 + 1e-9)


def test_a_slowdown_over_the_rounds_is_throttling() -> None:
    reason = objection([[1.0 + 0.1 * number] * 30 for number in range(5)], CALM, PLAN)
    assert reason == "throttling: the last round is the slowest, 40% above the fastest (limit 15%)"


def test_a_slowdown_within_the_rounds_is_detected_in_the_last_third() -> None:
    assert (
        objection([[1.0] * 30, [1.0] * 30, [1.0] * 9 + [1.3] * 21], CALM, Plan(rounds=3, max_spread=0.25)) is not None
    )


def test_steady_other_work_is_detected_although_the_rounds_agree() -> None:
    reason = objection([[1.27] * 30] * 5, [0.25, 0.0, 0.3, 0.27, 0.4], PLAN)
    assert reason == "busy machine: the threads waited for a core 27% of the time (limit 15%)"
    assert objection([[1.0] * 30] * 5, [0.05, 0.9, 0.0, 0.1, 0.0], PLAN) is None


def test_single_outliers_do_not_reject_a_row() -> None:
    assert objection([[1.0] * 29 + [50.0]] * 5, CALM, PLAN) is None


@given(st.lists(st.lists(st.floats(0.01, 1e4), min_size=3, max_size=9), min_size=3, max_size=6))
def test_recorded_rounds_have_an_interval_within_the_limit(samples: list[list[float]]) -> None:
    if objection(samples, [0.0] * len(samples), PLAN) is None:
        medians = [statistics.median(samples[index]) for index in agreeing(samples, PLAN.max_spread)]
        assert len(medians) >= PLAN.rounds
        assert max(medians) - min(medians) <= PLAN.max_spread * statistics.median(medians) * (1 + 1e-9)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Latencies in ms of the next visits, in order; 1 ms after the end of the list."""
    script: list[float] = []
    monkeypatch.setattr(rounds, "seconds_waited", lambda: 0.0)
    monkeypatch.setattr(rounds, "time_runs", lambda run, seconds: [script.pop(0) if script else 1.0] * 10)
    return script


def walk(state: State, keys: list[Key] = KEYS, said: list[str] | None = None) -> Iterator[Key]:
    return visits(keys, lambda key: lambda: key, PLAN, state, (said if said is not None else []).append)


def test_every_round_visits_every_key_once_in_another_order(scripted: list[float]) -> None:
    order = list(walk(State()))
    by_round = [order[start : start + 3] for start in range(0, 15, 3)]
    assert all(sorted(map(str, visited)) == sorted(map(str, KEYS)) for visited in by_round)
    assert len({tuple(map(str, visited)) for visited in by_round}) > 1
    assert order == list(walk(State()))


def test_a_slow_round_is_repeated_at_once(scripted: list[float]) -> None:
    scripted += [1.0, 9.0, 1.0, 1.0, 1.0]
    state = State()
    assert len(list(walk(state, KEYS[:1]))) == 6
    assert state.restarts == {}
    assert row(KEYS[0], state, PLAN, "1.0", "2026-01-01")["high_ms"] == 1.0


def test_a_noisy_key_is_measured_again_and_logged(scripted: list[float]) -> None:
    said: list[str] = []
    scripted += [2.0**number for number in range(PATIENCE * 5)]
    state = State()
    assert len(list(walk(state, KEYS[:1], said))) == PATIENCE * 5 + 5
    assert said == [
        "1 of 1 latencies are too noisy, measuring again (1 of 2): a 96 px onnxruntime 1 thread fp32: throttling: the "
        "last round is the slowest, 52428700% above the fastest (limit 15%)"
    ]
    assert state.rounds(KEYS[0]) == [[1.0] * 10] * 5


def test_a_key_that_stays_noisy_is_left_out(scripted: list[float]) -> None:
    scripted += [1.5**number for number in range(1000)]
    state = State()
    assert len(list(walk(state, KEYS[:1]))) == PATIENCE * 5 * (1 + PLAN.retries)
    assert state.objection(KEYS[0], PLAN) is not None


def test_an_interrupted_measurement_continues(scripted: list[float]) -> None:
    state = State()
    first = walk(state)
    done = [next(first) for _ in range(7)]
    first.close()
    assert len(list(walk(state))) == 15 - len(done)
    assert all(len(state.rounds(key)) == 5 for key in KEYS)


def test_a_drift_over_the_blocks_rejects_no_block(monkeypatch: pytest.MonkeyPatch, scripted: list[float]) -> None:
    """Rounds over all keys would differ beyond the limit, rounds of a block do not."""
    monkeypatch.setattr(rounds, "BLOCK", 2)
    keys = [Key(f"m{number}", 96, "onnxruntime", 1) for number in range(8)]
    scripted += [1.003**number for number in range(1000)]
    state = State()
    order = [key.model for key in walk(state, keys)]
    assert [set(order[start : start + 10]) for start in range(0, 40, 10)] == [
        {f"m{number}", f"m{number + 1}"} for number in range(0, 8, 2)
    ]
    assert [key.model for key in keys if state.restarts.get(str(key))] == []


def test_a_block_on_a_slow_machine_is_measured_again(monkeypatch: pytest.MonkeyPatch, scripted: list[float]) -> None:
    """Its rounds agree, but the reference latency shows the slow machine."""
    monkeypatch.setattr(rounds, "BLOCK", 2)
    keys = [Key(f"m{number}", 96, "onnxruntime", 1) for number in range(4)]
    said: list[str] = []
    scripted += [1.0] * 10 + [1.6] * 15
    state = State()
    list(walk(state, keys, said))
    assert said == [
        "2 of 4 latencies are too noisy, measuring again (1 of 2): m2 96 px onnxruntime 1 thread fp32: slow machine: "
        "60% slower than in its fastest block (limit 15%)"
    ]
    assert state.rounds(keys[2]) == [[1.0] * 10] * 5
    assert not any(state.objection(key, PLAN) for key in keys)


def test_the_reference_has_the_most_threads_and_is_in_every_block(
    monkeypatch: pytest.MonkeyPatch, scripted: list[float]
) -> None:
    """A latency on one core would not show other work on the other core."""
    monkeypatch.setattr(rounds, "BLOCK", 1)
    keys = [Key("a", 96, "onnxruntime", 1), Key("b", 96, "onnxruntime", 2), Key("c", 96, "onnxruntime", 1)]
    opened: list[str] = []

    def open_key(key: Key) -> Callable[[], None]:
        opened.append(key.model)
        return lambda: None

    list(visits(keys, open_key, PLAN, State(), lambda text: None))
    assert opened == ["b", "a", "b", "b", "c"]


def test_a_machine_that_stays_slow_is_not_recorded(monkeypatch: pytest.MonkeyPatch, scripted: list[float]) -> None:
    monkeypatch.setattr(rounds, "BLOCK", 2)
    keys = [Key(f"m{number}", 96, "onnxruntime", 1) for number in range(4)]
    scripted += [1.0] * 10 + [1.6] * 1000
    state = State()
    list(walk(state, keys))
    assert [key.model for key in keys if state.objection(key, PLAN)] == ["m2", "m3"]


def test_many_refusals_are_summarized() -> None:
    assert shown(["a", "b"]) == ["a", "b"]
    lines = shown([f"line {number}" for number in range(600)])
    assert len(lines) == 11
    assert lines[-1] == "and 590 more that were not recorded"
