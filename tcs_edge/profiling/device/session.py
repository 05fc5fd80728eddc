"""Run one measurement, which continues after an interruption."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from .graphs import Key, open_graph
from .machine import describe_machine
from .memory import CannotRun, added_memory_mb
from .rounds import Plan, Say, State, visits
from .timing import pinned

STATE_FILE = "measured.json"
SAVE_SECONDS = 5.0

GraphOf = Callable[[Key], Path]
Track = Callable[[Iterable[Any], str, int], Iterator[Any]]


class OtherMeasurement(Exception):
    """The folder has a measurement with other options, other versions or of another machine."""


def measure(keys: Sequence[Key], graph_of: GraphOf, plan: Plan, work: Path, say: Say, track: Track) -> State:
    """Measure every key, and keep finished results in `work`.

    Args:
        graph_of: returns the ONNX file of a key.
        say: shows one line to the user.
        track: passes an iterable through and shows its progress with (description, total).

    Raises:
        OtherMeasurement: `work` was started with another plan, other versions or on another machine.
    """
    begun = {"plan": asdict(plan), "machine": describe_machine(sorted({key.runtime for key in keys}))}
    state = load_state(work, begun)
    _forget_refused(keys, plan, state)
    save = partial(save_state, work, begun, state)
    try:
        with pinned(max(key.threads for key in keys)):
            _exhaust(track(_try_out(keys, graph_of, state), "memory", len(keys)))
            able = [key for key in keys if str(key) not in state.failed]
            missing = sum(max(0, plan.rounds - len(state.rounds(key))) for key in able)
            steps = visits(able, lambda key: open_graph(graph_of(key), key), plan, state, say)
            # Repeated and additional visits take time but do not count as progress.
            firsts = (key for key in _saving(steps, save) if _first(key, plan, state))
            _exhaust(track(firsts, "measuring", missing))
    finally:
        save()
    return state


def _saving(steps: Iterable[Key], save: Callable[[], None]) -> Iterator[Key]:
    """Pass the steps through and save every few seconds."""
    saved = time.monotonic()
    for step in steps:
        if time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
        yield step


def _exhaust(steps: Iterable[Any]) -> None:
    for _ in steps:
        pass


def _first(key: Key, plan: Plan, state: State) -> bool:
    return str(key) not in state.restarts and len(state.rounds(key)) <= plan.rounds


def _forget_refused(keys: Sequence[Key], plan: Plan, state: State) -> None:
    """Remove noisy results, so that a new start measures them again."""
    for key in keys:
        if len(state.rounds(key)) >= plan.rounds and state.objection(key, plan):
            state.forget(key)
        state.restarts.pop(str(key), None)


def _try_out(keys: Sequence[Key], graph_of: GraphOf, state: State) -> Iterator[Key]:
    """Run every graph once in its own process with the most threads, which also measures its memory."""
    for key in keys:
        if str(key) not in state.peak_memory_mb and str(key) not in state.failed:
            family = [other for other in keys if _same_graph(key, other)]
            largest = max(family, key=lambda other: other.threads)
            try:
                memory_mb = added_memory_mb(graph_of(key), largest)
                state.peak_memory_mb.update({str(other): memory_mb for other in family})
            except CannotRun as error:
                state.failed.update({str(other): str(error) for other in family})
        yield key


def _same_graph(a: Key, b: Key) -> bool:
    return (a.model, a.img_size, a.runtime, a.precision) == (b.model, b.img_size, b.runtime, b.precision)


def load_state(work: Path, begun: dict[str, Any]) -> State:
    """Load the state of a measurement with the same settings from `work`; an empty state without one.

    Raises:
        OtherMeasurement: the settings differ, or the file is damaged.
    """
    path = work / STATE_FILE
    if not path.is_file():
        return State()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["begun"] != begun:
            differing = [name for name in begun if document["begun"].get(name) != begun[name]] or ["description"]
            raise OtherMeasurement(f"{work} has a measurement with another {' and '.join(differing)}")
        # Failed graphs are tried again, because the user may have fixed the cause.
        state = State(**{**document["state"], "failed": {}})
        intact = _is_intact(state)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise OtherMeasurement(f"{work} has a damaged {STATE_FILE}")
    return state


def _is_intact(state: State) -> bool:
    """Return True if all latencies are above 0 and finite, and no visit is without any."""
    visits = [samples for rounds in state.samples.values() for samples in rounds]
    waits = [wait for rounds in state.waits.values() for wait in rounds]
    positive = [*state.pace.values(), *(sample for samples in visits for sample in samples)]
    others = [*waits, *state.restarts.values(), *state.peak_memory_mb.values()]
    numbers = [*positive, *others]
    return (
        all(type(number) in (int, float) and 0 <= number < math.inf for number in numbers)
        and 0 not in positive
        and all(isinstance(samples, list) and samples for samples in visits)
        and all(isinstance(rounds, list) for rounds in (*state.samples.values(), *state.waits.values()))
    )


def save_state(work: Path, begun: dict[str, Any], state: State) -> None:
    """Write the state, whole or not at all."""
    work.mkdir(parents=True, exist_ok=True)
    draft = work / f".{STATE_FILE}.draft-{os.getpid()}"
    document = {"schema_version": 1, "begun": begun, "state": asdict(state)}
    draft.write_text(json.dumps(document), encoding="utf-8")
    draft.replace(work / STATE_FILE)
