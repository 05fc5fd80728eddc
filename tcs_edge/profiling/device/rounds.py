"""Measure in interleaved rounds: each round of a block visits every latency once, so that drift affects all alike.

A block takes a minute or two. Over half an hour the clock of an ordinary machine drifts further than rounds may
differ. Other work on the machine or its host slows rounds down for seconds and never speeds them up. A latency is
therefore visited until enough of its fastest rounds agree. The newest round must be among them, because a hot machine
stays slow. One reference latency is visited in every block and shows which blocks were slow as a whole. Latencies
that are noisy or in a slow block are measured again later, and finally left out. The state after every visit can be
saved, so an interrupted measurement can continue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .graphs import Key
from .timing import seconds_waited, time_runs

# Latencies in a block. Their graphs stay open, because opening one takes longer than a visit.
BLOCK = 24
# Largest number of visits to a latency in one block, as a multiple of the requested rounds.
PATIENCE = 4

Open = Callable[[Key], Callable[[], Any]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """Plan of a measurement.

    A latency is recorded if it meets all conditions, otherwise it is measured again, up to `retries` times:

    - The medians of its `rounds` fastest visits, the newest among them, differ by at most `max_spread` of their median.
    - In these visits, the last third of the runs is at most `max_spread` slower than the first third.
    - Its threads waited for a core for at most the fraction `max_spread` of the time.
    - The reference latency was at most `max_spread` slower in this block than in its fastest block.

    `seconds` is the length of one visit.
    """

    rounds: int = 5
    seconds: float = 0.15
    max_spread: float = 0.15
    retries: int = 2


@dataclass
class State:
    """Results so far, by key.

    Attributes:
        samples: latencies in ms of every visit.
        waits: fraction of every visit during which the threads waited for a core.
        pace: lowest latency of the reference in the key's block, in ms.
        restarts: number of restarts.
        peak_memory_mb: memory in 10^6 bytes.
        failed: reasons of graphs that do not run.
    """

    samples: dict[str, list[list[float]]] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    pace: dict[str, float] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    peak_memory_mb: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def rounds(self, key: Key) -> list[list[float]]:
        """Return the samples of every visit to a key, in order."""
        return self.samples.setdefault(str(key), [])

    def add_round(self, key: Key, samples: list[float], wait: float) -> None:
        """Add a visit's samples in ms, and the fraction of its time that the threads waited for a core."""
        self.rounds(key).append(samples)
        self.waits.setdefault(str(key), []).append(wait)

    def settled(self, key: Key, plan: Plan) -> bool:
        """Return True if a key has its rounds and they agree, regardless of the speed of its block."""
        visited = self.rounds(key)
        return len(visited) >= plan.rounds and not objection(visited, self.waits[str(key)], plan)

    def forget(self, key: Key) -> None:
        """Remove the samples of a key, to start it again."""
        self.samples[str(key)], self.waits[str(key)] = [], []
        self.pace.pop(str(key), None)
        self.restarts[str(key)] = self.restarts.get(str(key), 0) + 1

    def objection(self, key: Key, plan: Plan) -> str | None:
        """Return the reason against recording a key's rounds, or None."""
        found = objection(self.rounds(key), self.waits.get(str(key), [0.0]), plan)
        return found or self._slow_machine(key, plan)

    def _slow_machine(self, key: Key, plan: Plan) -> str | None:
        slower = self.pace[str(key)] / min(self.pace.values()) - 1 if str(key) in self.pace else 0.0
        if slower <= plan.max_spread:
            return None
        limit = f"(limit {plan.max_spread:.0%})"
        return f"slow machine: {slower:.0%} slower than in its fastest block {limit}"


def visits(keys: Sequence[Key], open_key: Open, plan: Plan, state: State, say: Say) -> Iterator[Key]:
    """Measure until every key has its rounds; yield after each visit, with `state` up to date.

    Keys are measured block by block, so that the rounds of each are close in time. Noisy keys are measured again
    after all others.
    """
    if not keys:
        return
    # The key with the most threads is slowed down by other work on any core.
    reference = max(keys, key=lambda key: key.threads)
    for attempt in range(plan.retries + 1):
        pending = [key for key in keys if not state.settled(key, plan)]
        for start in range(0, len(pending), BLOCK):
            yield from _block(pending[start : start + BLOCK], reference, open_key, plan, state)
        bad = {key: reason for key in keys if (reason := state.objection(key, plan))}
        if not bad or attempt == plan.retries:
            return
        first, reason = next(iter(bad.items()))
        count = f"{len(bad)} of {len(keys)} latencies are too noisy"
        say(f"{count}, measuring again ({attempt + 1} of {plan.retries}): {first}: {reason}")
        for key in bad:
            state.forget(key)


def _block(block: Sequence[Key], reference: Key, open_key: Open, plan: Plan, state: State) -> Iterator[Key]:
    """Measure all rounds of a few keys, and the reference latency as well, for the speed of the machine."""
    opened = {key: open_key(key) for key in dict.fromkeys((reference, *block))}
    paces: list[float] = []
    for number in range(PATIENCE * plan.rounds):
        unsettled = [key for key in block if not state.settled(key, plan)]
        if not unsettled:
            return
        waiting = [key for key in unsettled if len(state.rounds(key)) <= number]
        for key in shuffled([key for key in opened if key == reference or key in waiting], number):
            samples, wait = _visit(opened[key], plan.seconds)
            if key == reference:
                paces.append(float(np.median(samples)))
            if key in waiting:
                state.add_round(key, samples, wait)
                # Updated after every visit, because an interrupted block is not repeated for finished keys.
                state.pace.update({str(one): min(paces) for one in block if paces})
                yield key


def _visit(run: Callable[[], Any], seconds: float) -> tuple[list[float], float]:
    waited, started = seconds_waited(), time.perf_counter()
    samples = time_runs(run, seconds)
    return samples, (seconds_waited() - waited) / (time.perf_counter() - started)


def shuffled(keys: Sequence[Key], seed: int) -> list[Key]:
    """Return the keys in an order that depends on `seed` only."""
    return [keys[index] for index in np.random.default_rng(seed).permutation(len(keys))]


def agreeing(visits: Sequence[Sequence[float]], max_spread: float) -> list[int]:
    """Return the indices of the fastest visits whose medians differ by at most `max_spread` of their median."""
    medians = [float(np.median(samples)) for samples in visits]
    fastest = sorted(range(len(medians)), key=medians.__getitem__)
    while _spread([medians[index] for index in fastest]) > max_spread:
        fastest.pop()
    return sorted(fastest)


def objection(visits: Sequence[Sequence[float]], waits: Sequence[float], plan: Plan) -> str | None:
    """Return the reason against recording visits, from their samples and fractions of waiting, or None."""
    kept = agreeing(visits, plan.max_spread)
    limit = f"(limit {plan.max_spread:.0%})"
    wait = float(np.median([waits[index] for index in kept]))
    if wait > plan.max_spread:
        return f"busy machine: the threads waited for a core {wait:.0%} of the time {limit}"
    medians = [float(np.median(samples)) for samples in visits]
    slower = medians[-1] / min(medians) - 1
    if len(visits) - 1 not in kept and medians[-1] == max(medians):
        return f"throttling: the last round is the slowest, {slower:.0%} above the fastest {limit}"
    if len(kept) < plan.rounds or len(visits) - 1 not in kept:
        return f"noise: the medians of the {len(visits)} rounds differ by {_spread(medians):.0%} {limit}"
    runs = np.concatenate([np.asarray(visits[index]) for index in kept])
    third = max(1, len(runs) // 3)
    drift = float(np.median(runs[-third:]) / np.median(runs[:third])) - 1
    if drift > plan.max_spread:
        return f"throttling: the last third is {drift:.0%} slower than the first {limit}"
    return None


def _spread(medians: Sequence[float]) -> float:
    return (max(medians) - min(medians)) / float(np.median(medians))
