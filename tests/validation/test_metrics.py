"""Metrics beside accuracy agree with scikit-learn and with a written-out computation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from tcs_edge.errors import DataError
from tcs_edge.validation.metrics import (
    CalibrationMeter,
    Metrics,
    MetricsMeter,
    expected_calibration_error,
    top1_confidences,
)
from tcs_edge.validation.statistics import wilson_interval

CLASSES = 7


def scores(images: int, seed: int, without: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of a mediocre classifier and labels, none of them in `without`."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([label for label in range(CLASSES) if label not in without], images)
    logits = rng.normal(size=(images, CLASSES)).astype(np.float32)
    logits[np.arange(images), labels] += 1.5
    return logits, labels


def measured(logits: np.ndarray, labels: np.ndarray, batch: int = 10) -> Metrics:
    meter = MetricsMeter()
    for start in range(0, len(labels), batch):
        meter.add(logits[start : start + batch], labels[start : start + batch])
    return meter.result()


def written_out_ece(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, eq. 3, image by image."""
    images = [(float(row.max()), int(row.argmax()) == label) for row, label in zip(probabilities, labels, strict=True)]
    error = 0.0
    for m in range(1, bins + 1):
        inside = [(conf, right) for conf, right in images if (m - 1) / bins < conf <= m / bins]
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            confidence = sum(conf for conf, _ in inside) / len(inside)
            error += len(inside) / len(images) * abs(accuracy - confidence)
    return error


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed: int) -> None:
    logits, labels = scores(143, seed)
    predicted, found = logits.argmax(axis=1), measured(logits, labels)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    own = recall_score(labels, predicted, average=None, labels=range(CLASSES))
    assert [recall.value for recall in found.recalls] == pytest.approx(own.tolist())


def test_a_class_without_images_has_no_recall_and_leaves_the_means_alone() -> None:
    logits, labels = scores(200, 3, without=(2, 6))
    predicted, found = logits.argmax(axis=1), measured(logits, labels)
    assert {2, 6} <= set(predicted.tolist())  # scikit-learn would count these predictions as classes of F1 zero
    present = [label for label in range(CLASSES) if label not in (2, 6)]
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro", labels=present))
    assert found.balanced_accuracy == pytest.approx(recall_score(labels, predicted, average="macro", labels=present))
    for label in (2, 6):
        recall = found.recalls[label]
        assert (recall.value, recall.low, recall.high, recall.f1, recall.total) == (None, None, None, None, 0)


def test_recall_has_the_wilson_interval_of_its_class() -> None:
    labels = np.array([0] * 10 + [1] * 4)
    logits = np.eye(2)[[0] * 7 + [1] * 7]
    first, second = measured(logits, labels).recalls
    assert (first.correct, first.total, first.predicted, first.value) == (7, 10, 7, 0.7)
    assert (first.low, first.high) == wilson_interval(7, 10)
    assert (second.value, second.high) == (1.0, 1.0)
    assert second.low == pytest.approx(0.51, abs=0.01)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_is_equation_3(bins: int, seed: int) -> None:
    logits, labels = scores(160, seed)
    own = written_out_ece(softmax(logits), labels, bins)
    assert own > 0.01
    assert expected_calibration_error(logits, labels, bins) == pytest.approx(own)
    assert expected_calibration_error(softmax(logits), labels, bins, probabilities=True) == pytest.approx(own)


def test_metrics_hold_the_calibration_error_of_15_bins() -> None:
    logits, labels = scores(160, 9)
    found = measured(logits, labels)
    assert (found.bins, found.ece) == (15, pytest.approx(written_out_ece(softmax(logits), labels, 15)))


@pytest.mark.parametrize("confidence", [1 / 15, 2 / 15, 0.2, 7 / 15, 14 / 15, 1.0])
def test_an_edge_belongs_to_the_bin_below_it(confidence: float) -> None:
    meter = CalibrationMeter()
    meter.add(np.array([confidence]), np.array([True]))
    assert np.flatnonzero(meter.images).tolist() == [round(15 * confidence) - 1]


def test_perfect_and_opposite_calibration() -> None:
    certain = np.array([[100.0, 0.0], [0.0, 100.0]])
    assert expected_calibration_error(certain, np.array([0, 1])) == pytest.approx(0)
    assert expected_calibration_error(certain, np.array([1, 0])) == pytest.approx(1)
    undecided = np.zeros((4, 2))
    assert expected_calibration_error(undecided, np.array([0, 0, 1, 1])) == pytest.approx(0)


def test_batches_do_not_matter() -> None:
    logits, labels = scores(101, 4)
    whole = measured(logits, labels, batch=101)
    for batch in (1, 7, 100):
        parts = measured(logits, labels, batch)
        assert parts.recalls == whole.recalls
        assert parts.ece == pytest.approx(whole.ece)


def test_huge_logits_do_not_overflow() -> None:
    assert top1_confidences(np.array([[3e38, -3e38], [1e5, 1e5]], np.float32)).tolist() == [1.0, 0.5]


def test_an_image_without_finite_logits_is_wrong_and_leaves_no_calibration_error() -> None:
    logits, labels = scores(50, 5)
    before = measured(logits, labels)
    right = int(np.flatnonzero(logits.argmax(axis=1) == labels)[0])
    logits[right, 0] = np.nan
    after = measured(logits, labels)
    label = labels[right]
    assert after.recalls[label].correct == before.recalls[label].correct - 1
    assert after.recalls[label].total == before.recalls[label].total
    assert after.ece is None
    with pytest.raises(DataError, match="finite"):
        expected_calibration_error(logits, labels)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), [], "N labels"),
        (np.zeros((2, 3)), [0], "N labels"),
        (np.zeros(3), [0, 1, 2], "N labels"),
        (np.zeros((2, 3)), [0, 3], "label 3 is not among the model's 3 classes"),
        (np.zeros((2, 3)), [0, -1], "label -1"),
    ],
)
def test_wrong_input_is_refused(logits: np.ndarray, labels: list[int], message: str) -> None:
    for measure in (expected_calibration_error, measured_at_once):
        with pytest.raises(DataError, match=message):
            measure(logits, np.array(labels, dtype=int))


def measured_at_once(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    meter = MetricsMeter()
    meter.add(logits, labels)
    return meter.result()


def test_logits_passed_as_probabilities_are_refused() -> None:
    logits, labels = scores(20, 6)
    with pytest.raises(DataError, match="sum of 1"):
        expected_calibration_error(logits, labels, probabilities=True)


def test_nothing_measured_and_no_bins_are_refused() -> None:
    with pytest.raises(DataError, match="at least one image"):
        MetricsMeter().result()
    with pytest.raises(DataError, match="at least one image"):
        CalibrationMeter().error()
    with pytest.raises(DataError, match="at least one bin"):
        expected_calibration_error(np.zeros((1, 2)), np.array([0]), bins=0)


def test_the_document_is_plain_json() -> None:
    logits, labels = scores(40, 7, without=(1,))
    document = json.loads(json.dumps(measured(logits, labels).to_json(), allow_nan=False))
    assert document["recalls"]["value"][1] is None
    assert sum(document["recalls"]["total"]) == 40
    assert len(document["recalls"]["low"]) == CLASSES
