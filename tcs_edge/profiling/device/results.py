"""Turn samples into a profile: rows, reasons for missing rows, and the JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .graphs import Key
from .rounds import BLOCK, Plan, State, agreeing
from .timing import MAX_RUNS, MIN_RUNS, WARMUP_RUNS

SHOWN_REFUSALS = 10


def refusals(keys: Sequence[Key], state: State, plan: Plan) -> list[str]:
    """Return one line for every key without a row: its graph fails, or its rounds disagree."""
    lines = []
    for key in keys:
        reason = state.failed.get(str(key)) or state.objection(key, plan)
        if reason:
            lines.append(f"not recorded: {key}: {reason}")
    return lines


def shown(refused: Sequence[str]) -> list[str]:
    """Return the first refusals and the number of the others; the profile's notes have all."""
    more = len(refused) - SHOWN_REFUSALS
    return [*refused[:SHOWN_REFUSALS], *([f"and {more} more that were not recorded"] if more > 0 else [])]


def recordable(keys: Sequence[Key], state: State, plan: Plan) -> list[Key]:
    """Return the keys whose rounds are complete and agree."""
    return [key for key in keys if str(key) not in state.failed and not state.objection(key, plan)]


def row(key: Key, state: State, plan: Plan, runtime_version: str, measured_on: str) -> dict[str, Any]:
    """Return the profile row of a key from its agreeing rounds; latencies in ms, memory in 10^6 bytes."""
    visits = state.rounds(key)
    rounds = [visits[index] for index in agreeing(visits, plan.max_spread)]
    medians = [float(np.median(samples)) for samples in rounds]
    p50 = float(np.median(medians))
    pooled = np.concatenate([np.asarray(samples) for samples in rounds])
    p90, p99 = (max(p50, float(np.quantile(pooled, share))) for share in (0.90, 0.99))
    latencies = {"p50_ms": p50, "low_ms": min(medians), "high_ms": max(medians), "p90_ms": p90, "p99_ms": p99}
    memory = state.peak_memory_mb.get(str(key))
    return {
        "model": key.model,
        "img_size": key.img_size,
        "batch": 1,
        "runtime": key.runtime,
        "threads": key.threads,
        "precision": key.precision,
        **{name: round(ms, 4) for name, ms in latencies.items()},
        **({} if memory is None else {"peak_memory_mb": memory}),
        "source": "measured",
        "citation": "measured",
        "measured_on": measured_on,
        "runtime_version": runtime_version,
    }


def protocol(plan: Plan) -> str:
    """Describe the method of measurement for the profile's citation."""
    return (
        f"random weights, batch 1, {plan.rounds} rounds of {MIN_RUNS} to {MAX_RUNS} runs within {plan.seconds:g} s "
        f"after {WARMUP_RUNS} warm-up runs, interleaved in blocks of {BLOCK} latencies; without runs that other "
        "processes interrupted, slow rounds among fast ones, and blocks with a slow machine; "
        f"interval = lowest and highest median of a round, at most {plan.max_spread:.0%} apart; "
        "memory = growth of a process by loading and running the model"
    )


def profile_document(
    target: str, keys: Sequence[Key], state: State, plan: Plan, machine: dict[str, str], measured_on: str
) -> dict[str, Any]:
    """Return a profile of `target` as JSON values: recorded latencies as rows, the others in the notes."""
    versions = ", ".join(f"{name} {machine[name]}" for name in sorted({key.runtime for key in keys}) if name in machine)
    return {
        "schema_version": 1,
        "target": target,
        "machine": machine,
        "notes": refusals(keys, state, plan),
        "citations": {"measured": f"{machine['cpu']}, {measured_on}, {versions}: {protocol(plan)}"},
        "rows": [row(key, state, plan, machine[key.runtime], measured_on) for key in recordable(keys, state, plan)],
    }
