"""Interleaved rounds: every round visits each latency once, so that slow drift of the machine hits all alike.

A latency whose rounds disagree is measured again, and left out if it never settles. The state after every
visit can be saved and read back, so that an interrupted measurement goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .graphs import Key
from .timing import seconds_waited, time_runs

# Idle sessions cost memory only; reopening them for every visit costs most of a small measurement's time.
MAX_OPEN = 16

Open = Callable[[Key], Callable[[], Any]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How to measure.

    A latency is recorded if the medians of its `rounds` differ by at most `max_spread` of their median, the last
    third of its runs is at most that much slower than the first, and its threads waited for a core for at most
    that share of the time; else it is measured again, up to `retries` times.
    """

    rounds: int = 5
    seconds: float = 0.15
    max_spread: float = 0.15
    retries: int = 2


@dataclass
class State:
    """What is measured so far: samples in ms by key and round, what share of each round its threads waited for a
    core, how often a key was started afresh, memory in 10^6 bytes, and the graphs that do not run, with the reason."""

    samples: dict[str, list[list[float]]] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    peak_memory_mb: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def rounds(self, key: Key) -> list[list[float]]:
        """The rounds of one key, in the order they were measured."""
        return self.samples.setdefault(str(key), [])

    def add_round(self, key: Key, samples: list[float], wait: float) -> None:
        """One visit's samples in ms, and the share of its time that its threads waited for a core."""
        self.rounds(key).append(samples)
        self.waits.setdefault(str(key), []).append(wait)

    def forget(self, key: Key) -> None:
        """Start a key afresh."""
        self.samples[str(key)], self.waits[str(key)] = [], []

    def objection(self, key: Key, plan: Plan) -> str | None:
        """Why a key's rounds must not be recorded, in words; None if they may."""
        return objection(self.rounds(key), self.waits.get(str(key), [0.0]), plan)


def visits(keys: Sequence[Key], open_key: Open, plan: Plan, state: State, say: Say) -> Iterator[Key]:
    """Measure until every key has its rounds; yields after each visit, `state` being up to date then."""
    opened: dict[Key, Callable[[], Any]] = {}
    while True:
        pending = [key for key in keys if len(state.rounds(key)) < plan.rounds]
        if not pending:
            return
        number = min(len(state.rounds(key)) for key in pending)
        for key in shuffled([key for key in pending if len(state.rounds(key)) == number], number):
            run = opened.get(key) or open_key(key)
            if len(keys) <= MAX_OPEN:
                opened[key] = run
            state.add_round(key, *_visit(run, plan.seconds))
            _start_afresh_if_bad(key, plan, state, say)
            yield key


def _visit(run: Callable[[], Any], seconds: float) -> tuple[list[float], float]:
    waited, started = seconds_waited(), time.perf_counter()
    samples = time_runs(run, seconds)
    return samples, (seconds_waited() - waited) / (time.perf_counter() - started)


def shuffled(keys: Sequence[Key], seed: int) -> list[Key]:
    """Another order in every round, the same one every time."""
    return [keys[index] for index in np.random.default_rng(seed).permutation(len(keys))]


def _start_afresh_if_bad(key: Key, plan: Plan, state: State, say: Say) -> None:
    restarts = state.restarts.get(str(key), 0)
    if len(state.rounds(key)) < plan.rounds or restarts >= plan.retries:
        return
    reason = state.objection(key, plan)
    if reason:
        say(f"{key}: {reason}; measuring it again ({restarts + 1} of {plan.retries})")
        state.forget(key)
        state.restarts[str(key)] = restarts + 1


def objection(rounds: Sequence[Sequence[float]], waits: Sequence[float], plan: Plan) -> str | None:
    """Why rounds of samples, with their shares of waiting, must not be recorded, in words; None if they may."""
    runs = np.concatenate([np.asarray(samples) for samples in rounds])
    third = max(1, len(runs) // 3)
    limit = f"(limit {plan.max_spread:.0%})"
    wait = float(np.median(waits))
    if wait > plan.max_spread:
        return f"busy machine: its threads waited for a core {wait:.0%} of the time {limit}"
    drift = float(np.median(runs[-third:]) / np.median(runs[:third])) - 1
    if drift > plan.max_spread:
        return f"throttling: its last third is {drift:.0%} slower than its first {limit}"
    medians = [float(np.median(samples)) for samples in rounds]
    spread = (max(medians) - min(medians)) / float(np.median(medians))
    if spread > plan.max_spread:
        return f"noise: the medians of its rounds differ by {spread:.0%} {limit}"
    return None
