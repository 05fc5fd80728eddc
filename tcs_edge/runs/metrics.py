"""Schema of the metrics beside accuracy and of the calibration in manifest.json."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tcs_edge.runs.ranges import ROUNDING, Count, Positive, Share, require_interval, require_share
from tcs_edge.specs.confidence import UnknownRule
from tcs_edge.specs.strict import Spec
from tcs_edge.validation.chance import chance_accuracy


class RecallsRecord(Spec):
    """Recall of every class with its 95 % Wilson interval, in 0..1; null for a class without test images.

    Every field has one entry per class, in the order of the logits. `correct` and `total` count test images of the
    class; `predicted` counts images of any class with this prediction.
    """

    correct: tuple[Count, ...] = Field(min_length=1)
    total: tuple[Count, ...]
    predicted: tuple[Count, ...]
    value: tuple[Share | None, ...]
    low: tuple[Share | None, ...]
    high: tuple[Share | None, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        columns = (self.correct, self.total, self.predicted, self.value, self.low, self.high)
        if len({len(column) for column in columns}) > 1:
            raise ValueError("the fields must have one entry per class each")
        for index, (correct, total, predicted, *interval) in enumerate(zip(*columns, strict=True)):
            if correct > min(total, predicted):
                raise ValueError(f"class {index}: {correct} correct of {total} images and {predicted} predictions")
            _require_recall(index, correct, total, *interval)
        if sum(self.predicted) > sum(self.total):
            raise ValueError(f"{sum(self.predicted)} predictions for {sum(self.total)} images")
        return self


class MetricsRecord(Spec):
    """Metrics of one export beside its accuracy, in 0..1; see `validation.metrics.Metrics`.

    The means are over the classes with test images. `ece` is the expected calibration error with `bins` bins of
    equal width; null if a logit is not finite.
    """

    balanced_accuracy: Share
    macro_f1: Share
    ece: Share | None
    bins: int = Field(ge=1, le=10_000, strict=True)
    recalls: RecallsRecord

    @property
    def chance(self) -> float:
        """Accuracy of these predictions by chance, in 0..1."""
        return chance_accuracy(self.recalls.total, self.recalls.predicted)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        own = self.recalls
        counts = [row for row in zip(own.correct, own.total, own.predicted, strict=True) if row[1]]
        if not counts:
            raise ValueError("no class has test images")
        recall = sum(correct / total for correct, total, _ in counts) / len(counts)
        f1 = sum(2 * correct / (total + predicted) for correct, total, predicted in counts) / len(counts)
        for name, value, found in (
            ("balanced_accuracy", self.balanced_accuracy, recall),
            ("macro_f1", self.macro_f1, f1),
        ):
            if abs(value - found) > ROUNDING:
                raise ValueError(f"{name} is {value}, but the counts of the classes give {found:.6g}")
        unanswered = sum(own.total) - sum(own.predicted)
        if (self.ece is None) != (unanswered > 0):
            raise ValueError(f"ece is {self.ece}, but {unanswered} images have no prediction")
        return self


class FalseAlarmRecord(Spec):
    """Test images of known classes that count as unknown: number, share in 0..1, and its 95 % Wilson interval."""

    count: Count
    total: Positive
    value: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require_share(self, self.count, self.total, self.value, "count as unknown")
        return self


class ConfidenceRecord(Spec):
    """Calibration of the model: temperature and threshold as in confidence.json, and test results.

    `ece_before` is the expected calibration error of the trained model without the temperature, in 0..1; null if a
    logit is not finite. `false_alarms` has one entry per runtime, and none without a threshold.
    """

    temperature: float = Field(gt=0, le=1e6)
    unknown: UnknownRule | None
    ece_before: Share | None
    false_alarms: dict[str, FalseAlarmRecord]


def _require_recall(
    index: int, correct: int, total: int, value: float | None, low: float | None, high: float | None
) -> None:
    """Raise ValueError unless value and interval belong to `correct` of `total` images."""
    if total == 0 or value is None or low is None or high is None:
        if total or any(number is not None for number in (value, low, high)):
            raise ValueError(f"class {index}: a recall is null without test images, and only then")
        return
    if abs(value - correct / total) > ROUNDING or not low - ROUNDING <= value <= high + ROUNDING:
        raise ValueError(f"class {index}: {low} <= {value} <= {high} is not the recall of {correct} of {total} images")
    require_interval(correct, total, low, high)
