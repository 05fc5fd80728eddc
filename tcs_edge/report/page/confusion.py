"""Count confusions: the whole matrix for few classes, the most frequent confusions for many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tcs_edge.runs.documents import PredictionsRecord

LARGEST_MATRIX = 24  # classes; a larger matrix is not readable
SHOWN_PAIRS, SHOWN_CLASSES = 15, 15


@dataclass(frozen=True)
class Pair:
    """`count` images of class `label` with the prediction `predicted`."""

    label: int
    predicted: int
    count: int


@dataclass(frozen=True)
class ClassRecall:
    """Number of correct images of one class."""

    label: int
    correct: int
    total: int

    @property
    def share(self) -> float:
        """Recall in 0..1."""
        return self.correct / self.total


@dataclass(frozen=True)
class Confusion:
    """Counts of test images by label and prediction.

    Attributes:
        matrix: rows are labels, columns predictions; None for more than `LARGEST_MATRIX` classes.
        pairs: the most frequent confusions, most frequent first.
        confused: number of different confusions.
        recalls: one per class with test images, lowest first.
        unanswered: number of images without finite logits.
    """

    matrix: tuple[tuple[int, ...], ...] | None
    pairs: tuple[Pair, ...]
    confused: int
    recalls: tuple[ClassRecall, ...]
    unanswered: int


def confusion(predictions: PredictionsRecord, classes: int) -> Confusion:
    """Count the predictions of `classes` classes."""
    counts = Counter(zip(predictions.labels, predictions.predicted, strict=True))
    totals = Counter(predictions.labels)
    wrong = [
        Pair(label, predicted, count)
        for (label, predicted), count in counts.items()
        if predicted is not None and predicted != label
    ]
    recalls = [ClassRecall(label, counts[label, label], totals[label]) for label in sorted(totals)]
    return Confusion(
        matrix=_matrix(counts, classes) if classes <= LARGEST_MATRIX else None,
        pairs=tuple(sorted(wrong, key=lambda pair: (-pair.count, pair.label, pair.predicted))[:SHOWN_PAIRS]),
        confused=len(wrong),
        recalls=tuple(sorted(recalls, key=lambda found: found.share)),
        unanswered=predictions.predicted.count(None),
    )


def _matrix(counts: Counter[tuple[int, int | None]], classes: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(counts[label, predicted] for predicted in range(classes)) for label in range(classes))
