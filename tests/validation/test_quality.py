"""Limits of a run on recall, macro F1 and calibration error."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tcs_edge.specs.options import LimitOptions
from tcs_edge.validation.metrics import Metrics, MetricsMeter
from tcs_edge.validation.quality import metric_checks

CLASSES = ("cat", "dog", "eel")
LABELS, PREDICTED = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 0, 0, 1, 0, 2, 2, 2, 0]


def measured(labels: list[int], predicted: list[int], broken: bool = False) -> Metrics:
    logits = np.log(np.where(np.eye(3)[predicted] == 1, 0.8, 0.1))
    logits[0, 0] = np.nan if broken else logits[0, 0]
    meter = MetricsMeter()
    meter.add(logits, np.array(labels))
    return meter.result()


def passed(found: Metrics, **limits: float) -> dict[str, bool]:
    return {check.name: check.passed for check in metric_checks(found, CLASSES, LimitOptions(**limits))}


def test_no_limit_is_no_check() -> None:
    assert metric_checks(measured(LABELS, PREDICTED), CLASSES, LimitOptions()) == []


@pytest.mark.parametrize(
    ("limits", "name", "good"),
    [
        ({"min_class_recall": 0.5}, "model: recall of every class", True),
        ({"min_class_recall": 0.51}, "model: recall of every class", False),
        ({"min_macro_f1": 0.77}, "model: macro F1", True),
        ({"min_macro_f1": 0.78}, "model: macro F1", False),
        ({"max_ece": 0.01}, "model: calibration error", True),
    ],
)
def test_a_limit_decides(limits: dict[str, float], name: str, good: bool) -> None:
    assert passed(measured(LABELS, PREDICTED), **limits) == {name: good}


def test_a_calibration_error_above_its_limit_fails() -> None:
    always_right = measured([0, 1, 2], [0, 1, 2])  # with a confidence of 0.8
    assert passed(always_right, max_ece=0.19) == {"model: calibration error": False}
    assert passed(always_right, max_ece=0.21) == {"model: calibration error": True}


def test_the_classes_below_the_limit_are_named_lowest_first() -> None:
    (check,) = metric_checks(measured(LABELS, PREDICTED), CLASSES, LimitOptions(min_class_recall=0.9))
    assert check.detail == "dog (1 of 2), eel (3 of 4)"


def test_a_missing_number_fails_its_limit() -> None:
    no_images = metric_checks(measured([0, 0], [0, 0]), CLASSES, LimitOptions(min_class_recall=0.1, min_macro_f1=0.1))
    assert [check.passed for check in no_images] == [False, True]
    assert no_images[0].detail == "cannot check this limit: no test image of dog, eel. Add test images"
    (check,) = metric_checks(measured(LABELS, PREDICTED, broken=True), CLASSES, LimitOptions(max_ece=1.0))
    assert not check.passed
    assert "not all logits are finite" in check.detail


def test_a_run_outside_its_limits_fails(cli, tiny, tmp_path) -> None:
    result = cli(*tiny(max_ece=1e-6, min_macro_f1=0.01), "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "FAILED model: calibration error" in result.stdout
    assert "model quality outside its limits (calibration error)" in result.stdout
    checks = json.loads((tmp_path / "run" / "reports" / "validation.json").read_text())["checks"]
    outcomes = {check["name"]: check["passed"] for check in checks if check["name"].startswith("model: ")}
    assert outcomes == {"model: better than chance": True, "model: macro F1": True, "model: calibration error": False}
