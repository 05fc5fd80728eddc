"""Format the metrics beside accuracy, for summary, model card and page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tcs_edge.runs.metrics import MetricsRecord


@dataclass(frozen=True)
class LowestRecall:
    """The class with the lowest recall; all shares in 0..1."""

    name: str
    value: float
    low: float
    high: float
    correct: int
    total: int

    def __str__(self) -> str:
        return (
            f"{100 * self.value:.1f} % ({self.name}: {self.correct} of {self.total}, 95 % interval "
            f"{100 * self.low:.1f} to {100 * self.high:.1f})"
        )


def lowest_recall(found: MetricsRecord, classes: Sequence[str]) -> LowestRecall:
    """Return the lowest recall of a class with test images.

    Args:
        classes: class names in the order of the logits; if empty, classes are numbered.
    """
    own = found.recalls
    rows = zip(own.value, own.low, own.high, own.correct, own.total, strict=True)
    known = [
        LowestRecall(classes[index] if classes else f"class {index}", value, low, high, correct, total)
        for index, (value, low, high, correct, total) in enumerate(rows)
        if value is not None and low is not None and high is not None
    ]
    return min(known, key=lambda recall: recall.value)


def percent(value: float | None) -> str:
    """Format a share in 0..1; None is a number that does not exist."""
    return "none" if value is None else f"{100 * value:.1f} %"


def metrics_line(found: MetricsRecord, classes: Sequence[str]) -> str:
    """Return all metrics on one line; `classes` as in `lowest_recall`."""
    parts = [
        f"balanced accuracy {percent(found.balanced_accuracy)}",
        f"macro F1 {percent(found.macro_f1)}",
        f"lowest recall {lowest_recall(found, classes)}",
        f"calibration error {percent(found.ece)}",
    ]
    return ", ".join(parts) + empty_classes_note(found, classes, ". ")


def empty_classes_note(found: MetricsRecord, classes: Sequence[str], before: str = "") -> str:
    """Return a note on classes without test images, after `before`; empty without any."""
    empty = [index for index, total in enumerate(found.recalls.total) if total == 0]
    if not empty:
        return ""
    name = classes[empty[0]] if classes else f"class {empty[0]}"
    more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
    return f"{before}No test images, so no recall: {name}{more}"
