"""Render several runs on one page: numbers side by side, and paired tests of their accuracies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tcs_edge.errors import UsageError
from tcs_edge.report.page.charts import Chart, Series, lines_chart, runs_chart
from tcs_edge.report.page.contents import RunContents, read_run
from tcs_edge.report.page.environment import environment, percent, significant
from tcs_edge.report.page.pairs import best_run, deployed_accuracy, paired_tests
from tcs_edge.report.page.plane import Point
from tcs_edge.runs.schema import AccuracyRecord, LatencyRecord
from tcs_edge.utils.durations import format_seconds


@dataclass(frozen=True)
class Row:
    """One measure of every run: the shown texts, and True where a value is shown to be the best."""

    title: str
    cells: tuple[str, ...]
    best: tuple[bool, ...]


def comparison_page(roots: Sequence[Path]) -> str:
    """Render the runs in `roots` side by side as self-contained HTML.

    Raises:
        UsageError: a run appears twice. DataError: not a finished run, or an unreadable file in it.
    """
    if len({root.resolve() for root in roots}) != len(roots):
        raise UsageError("a run was passed twice. Pass different run folders to compare.")
    runs = [read_run(root) for root in roots]
    names = _names(runs)
    pairs = paired_tests(runs)
    most_accurate = best_run(pairs, len(runs))
    template = environment().get_template("comparison.html.j2")
    return template.render(
        runs=runs,
        names=names,
        rows=_rows(runs, most_accurate),
        pairs=pairs,
        tested=[pair for pair in pairs if pair.test],
        most_accurate=most_accurate,
        same_images=len({run.manifest.dataset.fingerprint for run in runs}) == 1,
        plane=runs_chart(_points(runs, names)),
        curves=_curves(runs, names),
    )


def _names(runs: Sequence[RunContents]) -> list[str]:
    """Return the folder names, with the parent folder for equal names."""
    counts = Counter(run.name for run in runs)
    return [f"{run.folder.root.resolve().parent.name}/{run.name}" if counts[run.name] > 1 else run.name for run in runs]


def _rows(runs: Sequence[RunContents], most_accurate: int | None) -> list[Row]:
    students = [run.manifest.student for run in runs]
    latencies = [student.latency for student in students]
    seconds = [sum(stage.seconds for stage in run.manifest.stages) for run in runs]
    accuracies = [deployed_accuracy(run) for run in runs]
    method = [str(run.manifest.options.get("method", "tcs")) for run in runs]
    passed = [run.passed for run in runs]
    fastest = _fastest(runs)
    return [
        _words("Verdict", ["pass" if run.passed else "fail" for run in runs]),
        _words("Student", [student.name for student in students]),
        _words("Target", [str(run.manifest.target.get("name", "?")) for run in runs]),
        _words("Method", method),
        _words("Teacher", [run.manifest.teacher.name if run.manifest.teacher else "none" for run in runs]),
        _words("Accuracy of the export", [percent(a.value if a else None) for a in accuracies], most_accurate, passed),
        _words("95 % interval", [_interval(a) if a else "–" for a in accuracies]),
        _words("Latency, median", [_milliseconds(found, "p50_ms") for found in latencies], fastest, passed),
        _words("Latency, up to", [_milliseconds(found, "high_ms") for found in latencies]),
        _sizes("Exports, MB", [run.manifest.export_mb for run in runs], passed),
        _sizes("Parameters, M", [student.params_m for student in students], passed),
        _sizes("Multiply-accumulates, M", [student.macs_m for student in students], passed),
        _sizes("Weights and activations, MB", [student.peak_memory_mb for student in students], passed),
        _words("Input", [f"{student.img_size} px" for student in students]),
        _words("Largest relative difference", [significant(_worst_difference(run)) for run in runs]),
        _words("Epochs", [str(len(run.epochs)) for run in runs]),
        _words("Time of the run", [format_seconds(found) for found in seconds]),
        _words("Seed", [str(run.manifest.seed) for run in runs]),
    ]


def _words(title: str, cells: Sequence[str], best: int | None = None, passed: Sequence[bool] = ()) -> Row:
    """Return a row; the mark of position `best` is left out for a failed run."""
    return Row(title, tuple(cells), tuple(index == best and passed[index] for index in range(len(cells))))


def _sizes(title: str, values: Sequence[float | None], passed: Sequence[bool]) -> Row:
    """Return a row of exact numbers, with a mark for the smallest of passed runs if they differ as shown."""
    cells = tuple(significant(value) for value in values)
    known = [value for value in values if value is not None]
    smallest = significant(min(known)) if len(known) == len(values) and len(set(cells)) > 1 else None
    return Row(title, cells, tuple(cell == smallest and ok for cell, ok in zip(cells, passed, strict=True)))


def _interval(accuracy: AccuracyRecord) -> str:
    """Format the interval with no-break spaces, so that a sign stays at its number."""
    low, high = (percent(end, 1).replace(" ", "\u00a0") for end in (accuracy.low, accuracy.high))
    return f"{low} to {high}"


def _milliseconds(latency: LatencyRecord | None, field: str) -> str:
    return significant(getattr(latency, field), "ms") if latency else significant(None)


def _fastest(runs: Sequence[RunContents]) -> int | None:
    """Return the position of the run whose interval lies below all others on the same target; None without one."""
    latencies = [run.manifest.student.latency for run in runs]
    if None in latencies or len({str(run.manifest.target.get("name")) for run in runs}) > 1:
        return None
    known = [latency for latency in latencies if latency]
    for index, latency in enumerate(known):
        if all(latency.high_ms < other.low_ms for at, other in enumerate(known) if at != index):
            return index
    return None


def _worst_difference(run: RunContents) -> float | None:
    judged = [parity for parity in run.manifest.parity.values() if parity.judged]
    known = [parity.max_rel_diff for parity in judged if parity.max_rel_diff is not None]
    return max(known) if known and len(known) == len(judged) else None


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
    several = any(len(found.points) > 1 for found in series)
    return lines_chart(series, "validation accuracy, %", label) if several else None
