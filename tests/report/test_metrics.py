"""Metrics and the file for the device in the console summary, the model card and the report page."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from tcs_edge.report.metrics import empty_classes_note, lowest_recall, metrics_line
from tcs_edge.report.model_card import model_card
from tcs_edge.report.summary import print_validation
from tcs_edge.runs.manifest import read_manifest
from tcs_edge.runs.metrics import MetricsRecord
from tcs_edge.validation.accuracy import Accuracy
from tcs_edge.validation.checks import holds
from tcs_edge.validation.metrics import Metrics, MetricsMeter
from tcs_edge.validation.validate import Validation

CLASSES = ("cat", "dog", "eel")


def measured(predicted: list[int], labels: list[int]) -> Metrics:
    meter = MetricsMeter()
    meter.add(np.log(np.where(np.eye(3)[predicted] == 1, 0.8, 0.1)), np.array(labels))
    return meter.result()


def record(predicted: list[int], labels: list[int]) -> MetricsRecord:
    return MetricsRecord.model_validate(measured(predicted, labels).to_json())


LABELS = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
PREDICTED = [0, 0, 0, 0, 1, 0, 2, 2, 2, 0]


def test_all_metrics_are_one_line() -> None:
    line = metrics_line(record(PREDICTED, LABELS), CLASSES)
    f1 = (8 / 10 + 2 / 3 + 6 / 7) / 3
    assert line == (
        f"balanced accuracy 75.0 %, macro F1 {100 * f1:.1f} %, lowest recall 50.0 % (dog: 1 of 2, 95 % interval "
        "9.5 to 90.5), calibration error 0.0 %"
    )


def test_classes_without_names_are_numbered_and_empty_ones_are_named() -> None:
    found = record([0, 0, 1], [0, 0, 0])
    assert lowest_recall(found, ()).name == "class 0"
    assert empty_classes_note(found, CLASSES) == "No test images, so no recall: dog and 1 more"
    assert metrics_line(found, CLASSES).endswith(". No test images, so no recall: dog and 1 more")
    assert empty_classes_note(record(PREDICTED, LABELS), CLASSES) == ""


def test_the_summary_of_a_validation_has_the_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = {"pytorch": Accuracy.of_counts(8, 10)}
    found = Validation(
        10, (holds("runs", True),), {"pytorch": "f32"}, accuracy, {}, metrics={"pytorch": measured(PREDICTED, LABELS)}
    )
    print_validation(replace(found, class_names=("cat", "d\x1bog", "eel")))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("metrics of pytorch: ")]
    assert "macro F1" in line
    assert "(d\\x1bog: 1 of 2" in line


def test_the_model_card_has_metrics_and_the_file_for_the_device(make_run) -> None:
    text = model_card(read_manifest(make_run()))
    assert re.search(r"File for the device: <code>model&#46;onnx</code> \(ONNX, fp32, 1\.00 MB\)\.", text)
    (row,) = [line for line in text.splitlines() if line.startswith("| onnxruntime | 9")][1:]
    assert row.count("|") == 7
    assert "Few images inflate it." in text
    assert "File for the device" not in model_card(read_manifest(make_run("failed", passed=False)))


def test_a_finished_run_shows_them_everywhere(finished, finished_result) -> None:
    manifest = read_manifest(finished)
    assert set(manifest.metrics) == set(manifest.accuracy)
    assert set(json.loads(finished_result.stdout)["metrics"]) == set(manifest.accuracy)
    stored = json.loads((finished / "reports" / "validation.json").read_text())["metrics"]
    assert stored["onnxruntime"] == manifest.metrics["onnxruntime"].model_dump(mode="json")
    page = (finished / "reports" / "report.html").read_text()
    found = manifest.metrics["onnxruntime"]
    assert f"{100 * found.macro_f1:.1f}" in page
    size = (finished / "export" / "model.onnx").stat().st_size
    headline = page[page.index("File for the device") :][:400]
    assert "model.onnx" in headline.replace("<wbr>", "")
    assert "ONNX, fp32" in headline
    assert f"{size / 1e6:.2f}"[:3] in headline
    assert f"{size / 1e6:.2f} MB" in (finished / "README.md").read_text()
