"""Choice of the learning rate of every arm from one grid, at the same cost for all."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tcs_edge.bench.grid import BenchRun, RunResult, SharedOptions, make_runs
from tcs_edge.bench.run import run_bench
from tcs_edge.errors import TrainingDiverged, UsageError
from tcs_edge.specs.methods import METHODS

logger = logging.getLogger(__name__)

Arm = tuple[str, str, int | None]  # arm, student and shots


def parse_rates(text: str) -> tuple[float, ...]:
    """Parse the rates of `--lr-grid`, such as "5e-4,1e-3,2e-3", into ascending order.

    Raises:
        UsageError: fewer than two rates, two that are equal to six digits, or one that is not in (0, 1e30].
    """
    try:
        rates = sorted(float(word) for word in text.split(","))
    except ValueError:
        rates = []
    shown = {f"{rate:g}" for rate in rates}  # in the names of the runs
    if len(rates) < 2 or len(shown) < len(rates) or not all(0 < rate <= 1e30 for rate in rates):
        raise UsageError(f"--lr-grid: not two or more different rates: {text!r}. Write them such as 5e-4,1e-3,2e-3.")
    return tuple(rates)


def run_tuned(
    shared: Sequence[SharedOptions],
    arms: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    rates: Sequence[float],
    out: Path,
) -> tuple[dict[BenchRun, RunResult], dict[Arm, dict[float, float]]]:
    """Run every rate on the first seed, and the other seeds at the rate that each arm chose there.

    The choice uses the accuracy on all validation images after the last epoch, and never the test images. A rate at
    which the training diverges is no choice.

    Returns:
        Results at the chosen rates, and the validation accuracy in 0..1 of every rate, by arm.

    Raises:
        TrainingDiverged: every rate of an arm diverges.
        UsageError, TcsEdgeError: as `run.run_bench`.
    """
    _warn_of_defaults_outside(shared, arms, rates)
    grid = make_runs(shared, arms, seeds[:1], rates)
    tried = run_bench(grid, out)
    accuracies: dict[Arm, dict[float, float]] = {}
    for run, result in tried.items():
        accuracies.setdefault(_arm(run), {})[run.options.lr] = result.val_accuracy
    if diverged := next((run for run in grid if _arm(run) not in accuracies), None):
        raise TrainingDiverged(f"{_title(_arm(diverged))}: diverged at every rate of --lr-grid. Pass lower rates.")
    chosen = {arm: choose_rate(found) for arm, found in accuracies.items()}
    trained = {_arm(run) for run in tried if run.options.method_facts.trains}
    for arm, rate in chosen.items():
        if arm not in trained:
            continue
        logger.info(f"learning rate of {_title(arm)}: {rate:g}")
        if rate in (min(rates), max(rates)):
            logger.warning(f"learning rate of {_title(arm)}: {rate:g} is at an end of --lr-grid. Extend the grid.")
    others = [run for run in make_runs(shared, arms, seeds[1:], rates) if run.options.lr == chosen[_arm(run)]]
    kept = {run: result for run, result in tried.items() if run.options.lr == chosen[_arm(run)]}
    return kept | run_bench(others, out), accuracies


def _warn_of_defaults_outside(
    shared: Sequence[SharedOptions], arms: Mapping[str, Mapping[str, Any]], rates: Sequence[float]
) -> None:
    if not any(METHODS[changes["method"]].trains for changes in arms.values()):
        return
    for options in (base.options for base in shared):
        if not min(rates) <= options.lr <= max(rates):
            title = _title(("learning rate", options.student, options.shots))
            logger.warning(f"{title}: the default, {options.lr:g}, is outside of --lr-grid. Extend the grid to it.")


def choose_rate(accuracies: Mapping[float, float]) -> float:
    """Return the rate with the highest validation accuracy, the smallest of equals."""
    return min(accuracies, key=lambda rate: (-accuracies[rate], rate))


def _arm(run: BenchRun) -> Arm:
    return run.arm, run.options.student, run.options.shots


def _title(arm: Arm) -> str:
    name, student, shots = arm
    return f"{name}, {student}" + (f", {shots} shots" if shots else "")
