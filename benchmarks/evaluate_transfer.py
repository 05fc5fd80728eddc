"""Evaluate predictions of the reference machine for boards with latencies published by ncnn.

    python benchmarks/evaluate_transfer.py

Leaves out each network in turn. The prediction is the mean ratio of the other networks to the reference machine, times
the latency of the left-out network there. It is compared with the published latency. The first pass uses measured
reference latencies if available. The second pass predicts all of them, as for a network without any measurement.
Also prints the constants of tcs_edge/latency/transfer.py: the usual spread, the ratio of the boards to their peak
arithmetic, and the factor by which transformers are slower there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

from tcs_edge.latency.reference import Reference, reference, rows_of
from tcs_edge.latency.transfer import PEAK_LOG, Transfer, by_facts, by_ncnn, interval
from tcs_edge.specs.profile import LatencyRow, load_profile
from tcs_edge.specs.target import TargetSpec, list_targets, load_target

References = Callable[[int], Reference]
LeftOut = list[tuple[float, float, bool]]  # published ms, predicted ms, True if published is in the interval


def predicted_only(threads: int) -> Reference:
    """Return the reference machine without its measurements."""
    return replace(reference(threads), rows=())


def published(target: TargetSpec) -> list[list[LatencyRow]]:
    """Return ncnn's floating-point rows, one list per thread count."""
    profile = load_profile(target.profile)
    counts = sorted({row.threads for row in profile.rows if row.runtime == "ncnn"})
    return [rows_of(profile, "ncnn", "fp16", n) or rows_of(profile, "ncnn", "fp32", n) for n in counts]


def left_out(rows: list[LatencyRow], against: Reference) -> LeftOut:
    """Predict every convolutional network from the others."""
    found = by_ncnn(rows, against)
    logs = found.own if found else {}
    results = []
    for row in rows:
        if row.model not in logs:
            continue
        mean, half = interval([value for model, value in logs.items() if model != row.model])
        known = against.latency(row.model, row.img_size)
        assert known is not None  # every row with a ratio has a latency
        reach = math.hypot(half, math.log(known.high_ms / known.p50_ms))
        results.append((row.p50_ms, known.p50_ms * math.exp(mean), abs(logs[row.model] - mean) <= reach))
    return results


def print_figures(name: str, results: LeftOut) -> None:
    real, guess, inside = (np.array(column) for column in zip(*results, strict=True))
    error = np.abs(guess / real - 1)
    print(
        f"{name:32} {len(real):3} rows  median error {np.median(error):.1%}  90th percentile "
        f"{np.quantile(error, 0.9):.1%}  rank correlation {spearmanr(real, guess)[0]:.3f}  "
        f"inside the interval {inside.mean():.0%}"
    )


def transformer_lags(rows: list[LatencyRow], found: Transfer, against: Reference) -> list[float]:
    """Return the log of the board's additional slowdown in operators that only transformers have."""
    lags = []
    for row in rows:
        known = against.latency(row.model, row.img_size)
        if known and known.transformer_share > 0.5:
            lags.append((math.log(row.p50_ms / known.p50_ms) - found.mean) / known.transformer_share)
    return lags


def spreads(transfers: list[Transfer]) -> float:
    """Return the spread of log(board / reference) over networks, pooled over boards and thread counts."""
    return math.sqrt(float(np.mean([np.var(list(found.own.values()), ddof=1) for found in transfers])))


def main() -> None:
    boards = [target for name in list_targets() if (target := load_target(name)).profile == name and published(target)]
    for label, references in (("reference measured", reference), ("reference predicted", predicted_only)):
        everything: LeftOut = []
        for target in boards:
            results = [r for rows in published(target) for r in left_out(rows, references(rows[0].threads))]
            print_figures(f"{target.name}, {label}", results)
            everything += results
        print_figures(f"all boards, {label}", everything)
    transfers: list[Transfer] = []
    peaks: dict[str, list[float]] = {}
    lags: list[float] = []
    for target in boards:
        for rows in published(target):
            against, threads = reference(rows[0].threads), rows[0].threads
            found = by_ncnn(rows, against)
            assert found is not None  # published() found rows
            transfers.append(found)
            host = load_target(against.model.reference).cpu
            facts = by_facts(target.cpu, threads, host, against.threads)
            peaks.setdefault(target.name, []).append(found.mean + found.runtime_log - facts.mean + PEAK_LOG)
            print(f"{target.name} {threads} threads: {found.how}")
            lags += transformer_lags(rows, found, against)
    print(f"usual spread: {spreads(transfers):.2f}, slowdown of transformers: x {math.exp(np.mean(lags)):.2f}")
    logs = [float(np.mean(values)) for values in peaks.values()]
    print(
        f"board / peak arithmetic: x {math.exp(np.mean(logs)):.2f}, spread {np.std(logs, ddof=1):.2f}, "
        f"{len(logs)} boards"
    )


if __name__ == "__main__":
    main()
