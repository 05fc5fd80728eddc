"""Render several runs on one page: numbers side by side, and a paired test of their accuracies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcs_edge.errors import UsageError
from tcs_edge.report.page.charts import Chart, Point, Series, lines_chart, runs_chart
from tcs_edge.report.page.contents import RunContents, read_run
from tcs_edge.report.page.environment import environment, percent, significant
from tcs_edge.runs.schema import AccuracyRecord
from tcs_edge.validation.statistics import McNemar, mcnemar_exact

REFERENCE = "pytorch"


@dataclass(frozen=True)
class Row:
    """One measure of every run: the shown texts, and a mark for the best values."""

    title: str
    cells: tuple[str, ...]
    best: tuple[bool, ...]


@dataclass(frozen=True)
class Pairing:
    """A run against the first one on the same test images; without pairs `test` is None."""

    name: str
    test: McNemar | None
    why_not: str = ""


def comparison_page(roots: Sequence[Path]) -> str:
    """Render the runs in `roots` side by side as self-contained HTML.

    Raises:
        UsageError: a run appears twice. DataError: not a finished run, or an unreadable file in it.
    """
    if len({root.resolve() for root in roots}) != len(roots):
        raise UsageError("a run was passed twice. Pass different run folders to compare.")
    runs = [read_run(root) for root in roots]
    names = _names(runs)
    template = environment().get_template("comparison.html.j2")
    return template.render(
        runs=runs,
        names=names,
        rows=_rows(runs),
        pairings=_pairings(runs, names),
        same_images=len({run.manifest.dataset.fingerprint for run in runs}) == 1,
        plane=runs_chart(_points(runs, names)),
        curves=_curves(runs, names),
    )


def _names(runs: Sequence[RunContents]) -> list[str]:
    """Return the folder names, with the parent folder for equal names."""
    counts = Counter(run.name for run in runs)
    return [f"{run.folder.root.resolve().parent.name}/{run.name}" if counts[run.name] > 1 else run.name for run in runs]


def deployed_accuracy(run: RunContents) -> AccuracyRecord | None:
    """Return the accuracy of the first export, or of the trained model without one."""
    exported = [
        record for name, record in run.manifest.accuracy.items() if name not in (REFERENCE, *run.manifest.only_here)
    ]
    return exported[0] if exported else run.manifest.accuracy.get(REFERENCE)


def _rows(runs: Sequence[RunContents]) -> list[Row]:
    students = [run.manifest.student for run in runs]
    latencies = [student.latency for student in students]
    seconds = [sum(stage.seconds for stage in run.manifest.stages) for run in runs]
    accuracies = [deployed_accuracy(run) for run in runs]
    method = [str(run.manifest.options.get("method", "tcs")) for run in runs]
    return [
        _words("Verdict", ["pass" if run.passed else "fail" for run in runs]),
        _words("Student", [student.name for student in students]),
        _words("Target", [str(run.manifest.target.get("name", "?")) for run in runs]),
        _words("Method", method),
        _words("Teacher", [run.manifest.teacher.name if run.manifest.teacher else "none" for run in runs]),
        _numbers("Accuracy of the export", [a.value if a else None for a in accuracies], percent, max),
        _words("95 % interval", [f"{percent(a.low, 1)} to {percent(a.high, 1)}" if a else "–" for a in accuracies]),
        _numbers("Latency, median, ms", [found.p50_ms if found else None for found in latencies], significant, min),
        _numbers("Latency, up to, ms", [found.high_ms if found else None for found in latencies], significant, min),
        _numbers("Exports, MB", [run.manifest.export_mb for run in runs], significant, min),
        _numbers("Parameters, M", [student.params_m for student in students], significant, min),
        _numbers("Multiply-accumulates, M", [student.macs_m for student in students], significant, min),
        _numbers("Weights and activations, MB", [student.peak_memory_mb for student in students], significant, min),
        _numbers("Input, px", [student.img_size for student in students], significant, None),
        _numbers("Largest relative difference", [_worst_difference(run) for run in runs], significant, min),
        _numbers("Epochs", [len(run.epochs) for run in runs], significant, None),
        _numbers("Time of the run, s", seconds, significant, min),
        _words("Seed", [str(run.manifest.seed) for run in runs]),
    ]


def _words(title: str, cells: Sequence[str]) -> Row:
    return Row(title, tuple(cells), (False,) * len(cells))


def _numbers(
    title: str,
    values: Sequence[float | None],
    shown: Callable[[float | None], str],
    best: Callable[[Sequence[float]], float] | None,
) -> Row:
    known = [value for value in values if value is not None]
    differ = best is not None and len(known) > 1 and min(known) < max(known)
    winner = best(known) if best and differ else None
    cells = tuple(shown(value) for value in values)
    return Row(title, cells, tuple(winner is not None and value == winner for value in values))


def _worst_difference(run: RunContents) -> float | None:
    judged = [parity for parity in run.manifest.parity.values() if parity.judged]
    known = [parity.max_rel_diff for parity in judged if parity.max_rel_diff is not None]
    return max(known) if known and len(known) == len(judged) else None


def _pairings(runs: Sequence[RunContents], names: Sequence[str]) -> list[Pairing]:
    return [_pairing(runs[0], run, name) for run, name in zip(runs[1:], names[1:], strict=True)]


def _pairing(first: RunContents, other: RunContents, name: str) -> Pairing:
    if first.manifest.dataset.fingerprint != other.manifest.dataset.fingerprint:
        return Pairing(name, None, "tested on other images, so the accuracies are not comparable")
    right, also = _right(first), _right(other)
    if right is None or also is None or len(right) != len(also):
        return Pairing(name, None, "one of the runs has no recorded predictions")
    return Pairing(name, mcnemar_exact(right, also))


def _right(run: RunContents) -> np.ndarray | None:
    """Return bool (N,), True for a correct image of the trained model, in the order of the names."""
    if run.predictions is None:
        return None
    columns = zip(run.predictions.names, run.predictions.labels, run.predictions.predicted, strict=True)
    return np.array([label == predicted for _, label, predicted in sorted(columns, key=lambda row: row[0])])


def _points(runs: Sequence[RunContents], names: Sequence[str]) -> list[Point]:
    points = []
    for run, name in zip(runs, names, strict=True):
        found, accuracy = run.manifest.student.latency, deployed_accuracy(run)
        if found and accuracy:
            kind = "chosen" if run.passed else "rejected"
            points.append(Point(name, found.p50_ms, found.high_ms, 100 * accuracy.value, kind))
    return points


def _curves(runs: Sequence[RunContents], names: Sequence[str]) -> Chart | None:
    series = [
        Series(
            name, tuple((line["epoch"], 100 * line["val_accuracy"]) for line in run.epochs if "val_accuracy" in line)
        )
        for run, name in zip(runs, names, strict=True)
    ]
    label = "Validation accuracy of each run over its epochs."
    return lines_chart(series, "validation accuracy, %", label)
