"""Sentences on calibration, unknown images and int8 losses in the summary and the model card."""

from __future__ import annotations

import pytest

from tcs_edge.report.confidence import confidence_lines, loss_lines
from tcs_edge.report.model_card import model_card
from tcs_edge.runs.manifest import read_manifest
from tcs_edge.runs.metrics import ConfidenceRecord
from tcs_edge.runs.schema import AccuracyLossRecord, ArtifactRecord
from tcs_edge.validation.statistics import wilson_interval

ALARMS = {"count": 4, "total": 100, **dict(zip(("low", "high"), wilson_interval(4, 100), strict=True)), "value": 0.04}


@pytest.fixture
def run(make_run):
    return read_manifest(make_run())


def calibrated(run, **changes):
    rule = {"below": 0.623, "false_alarm_rate": 0.05, "images": 240}
    found = {"temperature": 1.3, "unknown": rule, "ece_before": 0.091, "false_alarms": {"pytorch": ALARMS}}
    return run.replaced(confidence=ConfidenceRecord.model_validate(found | changes))


def test_calibration_and_threshold_have_their_test_results(run):
    after = 100 * run.metrics["pytorch"].ece
    lines = list(confidence_lines(calibrated(run)))
    assert lines == [
        f"calibration: temperature 1.30, ECE 9.1 % before, {after:.1f} % after, on the test images",
        "unknown images: largest probability below 62.3 %; false alarms: at most 5 % expected, measured 4.0 % "
        "(95 % interval 1.6 to 9.8)",
    ]
    card = model_card(calibrated(run))
    assert all(f"- {line}\n" in card for line in lines)


def test_a_missing_threshold_has_its_reason(run):
    lines = list(confidence_lines(calibrated(run, unknown=None, false_alarms={}, ece_before=None)))
    assert lines == [
        "unknown images: no threshold, because there are too few validation images for the false-alarm rate"
    ]
    assert list(confidence_lines(run)) == []


@pytest.mark.parametrize(
    ("high", "said"), [(0.009, "limit 1)"), (0.073, "limit 1 not shown, released on request)")], ids=["shown", "not"]
)
def test_an_int8_loss_is_claimed_only_where_it_is_shown(run, high, said):
    loss = AccuracyLossRecord(value=0.0, high=high, images=30, limit=0.01)
    files = [
        ArtifactRecord(
            path=f"export/model.int8{kind}.onnx", format="onnx", precision="int8", input=reads, bytes=9, loss=loss
        )
        for kind, reads in (("", "image"), (".pixels", "picture"))
    ]
    (line,) = loss_lines(run.replaced(artifacts=(*run.artifacts, *files)))
    assert line == (
        f"model.int8.onnx: lost 0.0 points of accuracy, at most {100 * high:.1f} at 95 % (30 validation images, {said}"
    )


def test_training_with_simulated_int8_is_named_with_the_loss_before(run):
    loss = AccuracyLossRecord(
        value=0.004, high=0.009, images=1500, limit=0.01, finetuned_epochs=2, by_calibration=0.0315
    )
    file = ArtifactRecord(path="export/model.int8.onnx", format="onnx", precision="int8", bytes=9, loss=loss)
    (line,) = loss_lines(run.replaced(artifacts=(*run.artifacts, file)))
    assert line.endswith(", limit 1); 2 epochs of training with simulated int8, after 3.1 points by calibration")
