"""Statistics of a comparison: means and deviations over seeds, and a paired test against the first arm."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tcs_edge.bench.grid import BenchRun, RunResult
from tcs_edge.bench.tune import Arm
from tcs_edge.validation.statistics import McNemar, mcnemar_exact

Place = tuple[str, int | None]  # student and shots of the compared arms


@dataclass(frozen=True)
class Row:
    """Result of one arm over its seeds, for one student and number of shots.

    Attributes:
        shots: training images per class; None for all images.
        epochs, train_images: the budget, the same for every arm: passes over that number of images.
        accuracies: accuracy of each seed, 0..1, after the last epoch; `accuracy` is their mean, `deviation` their
            sample standard deviation, None for a single seed.
        seconds: mean training time, without `teacher_seconds`.
        teacher_seconds: longest pass of the teacher.
        peak_memory_mb, peak_gpu_mb: the largest over seeds, in 10^6 bytes.
        latency_ms: median over seeds of one image through the ONNX file with `threads` threads.
        lr: peak learning rate.
        tuning: validation accuracy in 0..1 of every rate of a grid on the first seed; empty without a grid.
        paired: McNemar's test on all seeds' test images against the first arm; None for that arm. It covers the
            variation over images, not over seeds.
    """

    arm: str
    student: str
    shots: int | None
    seeds: tuple[int, ...]
    epochs: int
    train_images: int
    accuracies: tuple[float, ...]
    accuracy: float
    deviation: float | None
    seconds: float
    teacher_seconds: float
    peak_memory_mb: float
    peak_gpu_mb: float
    params_m: float
    macs_m: float
    onnx_mb: float
    latency_ms: float
    threads: int
    lr: float
    tuning: dict[float, float]
    paired: McNemar | None

    @property
    def place(self) -> Place:
        return self.student, self.shots

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def make_rows(
    found: Mapping[BenchRun, RunResult], tuning: Mapping[Arm, dict[float, float]] | None = None
) -> tuple[Row, ...]:
    """Make one row per student, number of shots and arm, in the order of the runs.

    Args:
        tuning: validation accuracies of a grid of learning rates, as from `tune.run_tuned`.
    """
    places: dict[Place, dict[str, dict[BenchRun, RunResult]]] = {}
    for run, result in found.items():
        place = (run.options.student, run.options.shots)
        places.setdefault(place, {}).setdefault(run.arm, {})[run] = result
    return tuple(row for arms in places.values() for row in _rows_of(arms, tuning or {}))


def _rows_of(arms: Mapping[str, Mapping[BenchRun, RunResult]], tuning: Mapping[Arm, dict[float, float]]) -> list[Row]:
    first = next(iter(arms.values()))
    return [_row(runs, None if runs is first else _marks(first), tuning) for runs in arms.values()]


def _row(
    runs: Mapping[BenchRun, RunResult],
    first: Mapping[int, np.ndarray] | None,
    tuning: Mapping[Arm, dict[float, float]],
) -> Row:
    run, results = next(iter(runs)), list(runs.values())
    accuracies = tuple(result.accuracy for result in results)
    return Row(
        arm=run.arm,
        student=run.options.student,
        shots=run.options.shots,
        seeds=tuple(one.options.seed for one in runs),
        epochs=run.options.epochs,
        train_images=results[0].train_images,
        accuracies=accuracies,
        accuracy=statistics.mean(accuracies),
        deviation=statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        seconds=statistics.mean(result.train_seconds for result in results),
        teacher_seconds=max(result.teacher_seconds for result in results),
        peak_memory_mb=max(result.peak_memory_mb for result in results),
        peak_gpu_mb=max(result.peak_gpu_mb for result in results),
        params_m=results[0].params_m,
        macs_m=results[0].macs_m,
        onnx_mb=results[0].onnx_mb,
        latency_ms=statistics.median(result.latency_ms for result in results),
        threads=results[0].threads,
        lr=run.options.lr,
        tuning=tuning.get((run.arm, run.options.student, run.options.shots), {}),
        paired=_paired(first, _marks(runs)) if first else None,
    )


def _marks(runs: Mapping[BenchRun, RunResult]) -> dict[int, np.ndarray]:
    """Correctness of each test image (bool), by seed."""
    return {run.options.seed: np.array([mark == "1" for mark in found.correct]) for run, found in runs.items()}


def _paired(first: Mapping[int, np.ndarray], second: Mapping[int, np.ndarray]) -> McNemar:
    pooled = (np.concatenate([marks[seed] for seed in second]) for marks in (first, second))
    return mcnemar_exact(*pooled)
