"""Interleaved rounds: every round of a block visits each of its latencies once, so that drift hits all alike.

A block takes a minute or two: over half an hour the clock of an ordinary machine drifts further than rounds may differ.
Other work, on this machine or beside a virtual one, makes rounds slower for seconds and never faster. So a latency is
visited until enough of its fastest rounds agree, the newest among them: on a machine that gets hot and stays slow, the
newest do not. One latency, the yardstick, is visited in every block: it tells in which blocks the whole machine was
slow. What never settles, or whose block was slow, is measured again later, and then left out. The state after every
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

# Latencies in a block. They stay open: opening one for every visit takes longer than measuring it.
BLOCK = 24
# Visits to a latency whose rounds do not agree yet, in rounds asked for, before it has to wait for another time.
PATIENCE = 4

Open = Callable[[Key], Callable[[], Any]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How to measure.

    A latency is recorded if `rounds` of its visits agree, the newest among them: the medians of the fastest differ by
    at most `max_spread` of their median. Of these, the last third of the runs is at most that much slower than the
    first, and the threads waited for a core for at most that share of the time; and the yardstick was at most that
    much slower in its block than in the fastest one. Else it is measured again, up to `retries` times.
    """

    rounds: int = 5
    seconds: float = 0.15
    max_spread: float = 0.15
    retries: int = 2


@dataclass
class State:
    """What is measured so far: samples in ms by key and visit, what share of each visit its threads waited for a
    core, the least that the yardstick took in its block in ms, how often a key was started afresh, memory in 10^6
    bytes, and the graphs that do not run, with the reason."""

    samples: dict[str, list[list[float]]] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    pace: dict[str, float] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    peak_memory_mb: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def rounds(self, key: Key) -> list[list[float]]:
        """Every visit to one key, in the order they were measured."""
        return self.samples.setdefault(str(key), [])

    def add_round(self, key: Key, samples: list[float], wait: float) -> None:
        """One visit's samples in ms, and the share of its time that its threads waited for a core."""
        self.rounds(key).append(samples)
        self.waits.setdefault(str(key), []).append(wait)

    def settled(self, key: Key, plan: Plan) -> bool:
        """Whether a key has its rounds, and they agree; how fast its block was does not count."""
        visited = self.rounds(key)
        return len(visited) >= plan.rounds and not objection(visited, self.waits[str(key)], plan)

    def forget(self, key: Key) -> None:
        """Start a key afresh."""
        self.samples[str(key)], self.waits[str(key)] = [], []
        self.pace.pop(str(key), None)
        self.restarts[str(key)] = self.restarts.get(str(key), 0) + 1

    def objection(self, key: Key, plan: Plan) -> str | None:
        """Why a key's rounds must not be recorded, in words; None if they may."""
        found = objection(self.rounds(key), self.waits.get(str(key), [0.0]), plan)
        return found or self._slow_spell(key, plan)

    def _slow_spell(self, key: Key, plan: Plan) -> str | None:
        slower = self.pace[str(key)] / min(self.pace.values()) - 1 if str(key) in self.pace else 0.0
        if slower <= plan.max_spread:
            return None
        limit = f"(limit {plan.max_spread:.0%})"
        return f"slow spell: the machine was {slower:.0%} slower than in its fastest block {limit}"


def visits(keys: Sequence[Key], open_key: Open, plan: Plan, state: State, say: Say) -> Iterator[Key]:
    """Measure until every key has its rounds; yields after each visit, `state` being up to date then.

    Keys go block by block, so that the rounds of each lie close together. What must not be recorded is measured
    again when all others are done, at another time.
    """
    if not keys:
        return
    # The one with the most threads notices company on any core.
    yardstick = max(keys, key=lambda key: key.threads)
    for attempt in range(plan.retries + 1):
        pending = [key for key in keys if not state.settled(key, plan)]
        for start in range(0, len(pending), BLOCK):
            yield from _block(pending[start : start + BLOCK], yardstick, open_key, plan, state)
        bad = {key: reason for key in keys if (reason := state.objection(key, plan))}
        if not bad or attempt == plan.retries:
            return
        first, reason = next(iter(bad.items()))
        count = f"{len(bad)} of {len(keys)} too noisy"
        say(f"{count}, measuring again ({attempt + 1} of {plan.retries}): {first}: {reason}")
        for key in bad:
            state.forget(key)


def _block(block: Sequence[Key], yardstick: Key, open_key: Open, plan: Plan, state: State) -> Iterator[Key]:
    """All rounds of a few keys, which stay open; the yardstick is visited too, to tell how fast the machine is now."""
    opened = {key: open_key(key) for key in dict.fromkeys((yardstick, *block))}
    paces: list[float] = []
    for number in range(PATIENCE * plan.rounds):
        unsettled = [key for key in block if not state.settled(key, plan)]
        if not unsettled:
            return
        waiting = [key for key in unsettled if len(state.rounds(key)) <= number]
        for key in shuffled([key for key in opened if key == yardstick or key in waiting], number):
            samples, wait = _visit(opened[key], plan.seconds)
            if key == yardstick:
                paces.append(float(np.median(samples)))
            if key in waiting:
                state.add_round(key, samples, wait)
                # As far as it is known: a block that is interrupted is not visited again for those that are done.
                state.pace.update({str(one): min(paces) for one in block if paces})
                yield key


def _visit(run: Callable[[], Any], seconds: float) -> tuple[list[float], float]:
    waited, started = seconds_waited(), time.perf_counter()
    samples = time_runs(run, seconds)
    return samples, (seconds_waited() - waited) / (time.perf_counter() - started)


def shuffled(keys: Sequence[Key], seed: int) -> list[Key]:
    """Another order in every round, the same one every time."""
    return [keys[index] for index in np.random.default_rng(seed).permutation(len(keys))]


def agreeing(visits: Sequence[Sequence[float]], max_spread: float) -> list[int]:
    """Which visits agree: the fastest, as many as have medians within `max_spread` of their median."""
    medians = [float(np.median(samples)) for samples in visits]
    fastest = sorted(range(len(medians)), key=medians.__getitem__)
    while _spread([medians[index] for index in fastest]) > max_spread:
        fastest.pop()
    return sorted(fastest)


def objection(visits: Sequence[Sequence[float]], waits: Sequence[float], plan: Plan) -> str | None:
    """Why visits' samples, with their shares of waiting, must not be recorded, in words; None if they may."""
    kept = agreeing(visits, plan.max_spread)
    limit = f"(limit {plan.max_spread:.0%})"
    wait = float(np.median([waits[index] for index in kept]))
    if wait > plan.max_spread:
        return f"busy machine: its threads waited for a core {wait:.0%} of the time {limit}"
    medians = [float(np.median(samples)) for samples in visits]
    slower = medians[-1] / min(medians) - 1
    if len(visits) - 1 not in kept and medians[-1] == max(medians):
        return f"throttling: its last round is its slowest, {slower:.0%} above its fastest {limit}"
    if len(kept) < plan.rounds or len(visits) - 1 not in kept:
        return f"noise: the medians of its {len(visits)} rounds differ by {_spread(medians):.0%} {limit}"
    runs = np.concatenate([np.asarray(visits[index]) for index in kept])
    third = max(1, len(runs) // 3)
    drift = float(np.median(runs[-third:]) / np.median(runs[:third])) - 1
    if drift > plan.max_spread:
        return f"throttling: its last third is {drift:.0%} slower than its first {limit}"
    return None


def _spread(medians: Sequence[float]) -> float:
    return (max(medians) - min(medians)) / float(np.median(medians))
