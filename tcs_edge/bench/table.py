"""Table of a comparison: methods in rows; with several numbers of shots, shots in columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tcs_edge.bench.grid import SCHEMA_VERSION
from tcs_edge.bench.plot import accuracy_svg
from tcs_edge.bench.rows import Row
from tcs_edge.utils.files import write_json, write_text

SIGNIFICANT = 0.05


def write_table(rows: Sequence[Row], out: Path) -> str:
    """Write table.json, table.md and accuracy.svg into `out`, and return the Markdown."""
    markdown = to_markdown(rows)
    write_json(out / "table.json", {"schema_version": SCHEMA_VERSION, "rows": [row.to_json() for row in rows]})
    write_text(out / "table.md", markdown)
    write_text(out / "accuracy.svg", accuracy_svg(rows))
    return markdown


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown, one table per student, with notes on the columns."""
    students = list(dict.fromkeys(row.student for row in rows))
    parts = [_of_student(student, [row for row in rows if row.student == student]) for student in students]
    return "\n".join([*parts, _notes(rows)])


def _of_student(student: str, rows: Sequence[Row]) -> str:
    shots = list(dict.fromkeys(row.shots for row in rows))
    most = [row for row in rows if row.shots == shots[-1]]
    title = f"Student {student}, {_budget(rows)}:\n"
    if len(shots) == 1:
        return "\n".join([title, *_costs(most, with_accuracy=True), ""])
    costs = f"Costs at {shots[-1]} shots:\n"
    return "\n".join([title, *_accuracies(rows, shots), "", costs, *_costs(most, with_accuracy=False), ""])


def _budget(rows: Sequence[Row]) -> str:
    """Budget of every method, in words."""
    epochs = {row.shots: row.epochs for row in rows}
    if len(epochs) == 1:
        each = f" ({rows[0].shots} of each class)" if rows[0].shots else ""
        return f"{rows[0].epochs} epochs of {rows[0].train_images:,} images{each}"
    listed = ", ".join(f"{count} at {shots}" for shots, count in epochs.items())
    return f"{rows[0].epochs} epochs" if len(set(epochs.values())) == 1 else f"epochs by shots: {listed}"


def _accuracies(rows: Sequence[Row], shots: Sequence[int | None]) -> list[str]:
    by_arm: dict[str, dict[int | None, Row]] = {}
    for row in rows:
        by_arm.setdefault(row.arm, {})[row.shots] = row
    lines = [_line([arm, *(_accuracy(row) for row in found.values())]) for arm, found in by_arm.items()]
    return [_line(["accuracy % at shots", *map(str, shots)]), _line(["---"] * (len(shots) + 1)), *lines]


def _costs(rows: Sequence[Row], with_accuracy: bool) -> list[str]:
    heads = ["method", "training s", "teacher s", "peak MB", "ONNX MB", "latency ms", f"against {rows[0].arm}"]
    lines = [_columns(row) for row in rows]
    if any(row.tuning for row in rows):
        heads.insert(1, "learning rate")
        for row, columns in zip(rows, lines, strict=True):
            columns.insert(1, f"{row.lr:g}")
    if with_accuracy:
        heads.insert(1, "accuracy %")
        for row, columns in zip(rows, lines, strict=True):
            columns.insert(1, _accuracy(row, marked=False))
    return [_line(heads), _line(["---"] * len(heads)), *map(_line, lines)]


def _columns(row: Row) -> list[str]:
    memory = f"{row.peak_memory_mb:.0f}" + (f" + {row.peak_gpu_mb:.0f} GPU" if row.peak_gpu_mb else "")
    paired = "-"
    if row.paired:
        paired = f"{row.paired.only_first} / {row.paired.only_second}, p = {row.paired.p_value:.2g}"
    return [
        row.arm, f"{row.seconds:.0f}", f"{row.teacher_seconds:.0f}", memory, f"{row.onnx_mb:.2f}",
        f"{row.latency_ms:.2f}", paired,
    ]  # fmt: skip


def _accuracy(row: Row, marked: bool = True) -> str:
    spread = "" if row.deviation is None else f" ± {100 * row.deviation:.2f}"
    differs = marked and row.paired is not None and row.paired.p_value < SIGNIFICANT
    return f"{100 * row.accuracy:.2f}{spread}{'*' * differs}"


def _line(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |"


def _notes(rows: Sequence[Row]) -> str:
    first, seeds = rows[0].arm, len(rows[0].seeds)
    few, columns = rows[0].shots is not None, len({row.shots for row in rows}) > 1
    texts = (
        f"Test images after the last epoch; mean and standard deviation over {seeds} seed{'s' * (seeds > 1)}"
        f"{', each with its own draw of the training images' * few}. Every method trains on the same images for the "
        "same number of epochs.",
        "Learning rate: of the grid, the one with the highest validation accuracy on the first seed, for each method."
        * any(row.tuning for row in rows),
        f"*: McNemar's exact p against {first}, over the images of all seeds, is below {SIGNIFICANT}." * columns,
        "Training time and peak memory (the largest over seeds) exclude the teacher's pass, but include an online "
        "teacher. Teacher 0 s: its features were cached before.",
        f"Latency: one image through the ONNX file in ONNX Runtime on this machine, {rows[0].threads} "
        f"thread{'s' * (rows[0].threads > 1)}, median.",
        f"Last column: images that only {first} / only this method classified correctly, and McNemar's exact p over "
        "the images of all seeds.",
    )
    return " ".join(text for text in texts if text) + "\n"
