"""The table of a comparison: means over seeds, their spread, and a paired test against the first arm."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tcs_edge.bench.cells import SCHEMA_VERSION, Cell, Found
from tcs_edge.files import write_json, write_text
from tcs_edge.validation.statistics import McNemar, mcnemar_exact


@dataclass(frozen=True)
class Row:
    """One arm over its seeds.

    Attributes:
        accuracy: mean over seeds, 0..1, after the last epoch; `deviation` is the sample standard
            deviation, None for a single seed.
        seconds: mean training time; `teacher_seconds` the longest pass of the teacher, counted apart.
        paired: McNemar's test on all seeds' test images against the first arm; None for that arm.
            It knows the spread over images, not the one over seeds.
    """

    arm: str
    seeds: tuple[int, ...]
    accuracy: float
    deviation: float | None
    seconds: float
    teacher_seconds: float
    peak_memory_mb: float
    peak_gpu_mb: float
    params_m: float
    macs_m: float
    weights_mb: float
    paired: McNemar | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def make_rows(found: Mapping[Cell, Found]) -> tuple[Row, ...]:
    """One row per arm, in the order of the cells."""
    arms: dict[str, dict[int, Found]] = {}
    for cell, result in found.items():
        arms.setdefault(cell.arm, {})[cell.options.seed] = result
    first = next(iter(arms.values()))
    return tuple(_row(arm, by_seed, None if by_seed is first else first) for arm, by_seed in arms.items())


def _row(arm: str, by_seed: Mapping[int, Found], first: Mapping[int, Found] | None) -> Row:
    results = list(by_seed.values())
    accuracies = [result.accuracy for result in results]
    return Row(
        arm=arm,
        seeds=tuple(by_seed),
        accuracy=statistics.mean(accuracies),
        deviation=statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        seconds=statistics.mean(result.train_seconds for result in results),
        teacher_seconds=max(result.teacher_seconds for result in results),
        peak_memory_mb=max(result.peak_memory_mb for result in results),
        peak_gpu_mb=max(result.peak_gpu_mb for result in results),
        params_m=results[0].params_m,
        macs_m=results[0].macs_m,
        weights_mb=results[0].weights_mb,
        paired=mcnemar_exact(_pooled(first, by_seed), _pooled(by_seed, by_seed)) if first else None,
    )


def _pooled(by_seed: Mapping[int, Found], seeds: Mapping[int, Found]) -> np.ndarray:
    """Every test image of every seed, bool: right or wrong."""
    return np.array([mark == "1" for seed in seeds for mark in by_seed[seed].correct])


def write_table(rows: tuple[Row, ...], out: Path) -> str:
    """Write table.json and table.md into `out`; returns the Markdown."""
    markdown = to_markdown(rows)
    write_json(out / "table.json", {"schema_version": SCHEMA_VERSION, "rows": [row.to_json() for row in rows]})
    write_text(out / "table.md", markdown)
    return markdown


def to_markdown(rows: tuple[Row, ...]) -> str:
    """The rows as a Markdown table, with what its columns mean below."""
    first = rows[0].arm
    lines = [
        f"| method | accuracy % | training s | teacher s | peak MB | weights MB | against {first} |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
    ]
    seeds = len(rows[0].seeds)
    notes = (
        f"\nTest images after the last epoch; mean and standard deviation over {seeds} seed{'s' * (seeds > 1)}. "
        "Training time and peak memory (the largest over seeds) are without the teacher's pass, except where the "
        "teacher is in the loop; teacher 0 s: its answers were cached before. Last column: images that only "
        f"{first} / only this method got right, and McNemar's exact p over the images of all seeds.\n"
    )
    return "\n".join(lines) + "\n" + notes


def _line(row: Row) -> str:
    spread = "" if row.deviation is None else f" ± {100 * row.deviation:.2f}"
    memory = f"{row.peak_memory_mb:.0f}" + (f" + {row.peak_gpu_mb:.0f} GPU" if row.peak_gpu_mb else "")
    paired = "-"
    if row.paired:
        paired = f"{row.paired.only_first} / {row.paired.only_second}, p = {row.paired.p_value:.2g}"
    cells = (
        row.arm, f"{100 * row.accuracy:.2f}{spread}", f"{row.seconds:.0f}", f"{row.teacher_seconds:.0f}", memory,
        f"{row.weights_mb:.2f}", paired,
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"
