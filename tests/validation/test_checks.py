"""Checks and their limits."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tcs_edge.errors import UsageError
from tcs_edge.validation.accuracy import Accuracy, PairedAccuracy
from tcs_edge.validation.checks import (
    F32,
    TOLERANCES,
    accuracy_checks,
    at_least,
    at_most,
    chance_check,
    labels_check,
    least_accuracy_check,
    parity_checks,
    tolerance_for,
)
from tcs_edge.validation.metrics import MetricsMeter
from tcs_edge.validation.parity import compare


def failed(checks) -> list[str]:
    return [check.name for check in checks if not check.passed]


@pytest.mark.parametrize("judge", [at_most, at_least])
def test_nan_never_passes(judge):
    check = judge("x", math.nan, 1.0, "")
    assert not check.passed
    assert json.dumps(check.to_json(), allow_nan=False)


def test_a_value_on_the_limit_passes():
    assert at_most("x", 1.0, 1.0, "").passed
    assert not at_most("x", 1.0 + 1e-12, 1.0, "").passed
    assert at_least("x", 1.0, 1.0, "").passed


def test_a_precision_without_limits_is_refused():
    with pytest.raises(UsageError, match="int3"):
        tolerance_for("int3")
    assert tolerance_for("f32") is F32


def test_lower_precision_never_has_stricter_limits():
    order = [TOLERANCES[name] for name in ("f32", "f16", "bf16")]
    assert [t.max_rel_diff for t in order] == sorted(t.max_rel_diff for t in order)
    assert [t.max_centered_diff for t in order] == sorted(t.max_centered_diff for t in order)


def test_int8_may_lose_the_allowed_accuracy_only():
    assert tolerance_for("int8").max_accuracy_drop == 0.01
    assert tolerance_for("int8", 0.03).max_accuracy_drop == 0.03
    assert tolerance_for("f32", 0.03) is F32
    real_loss = PairedAccuracy.of_counts(20, 0, 4000)  # half a point, significant in McNemar's test
    assert failed(accuracy_checks("x", real_loss, 4000, tolerance_for("int8"))) == []
    assert len(failed(accuracy_checks("x", real_loss, 4000, tolerance_for("int8", 0.002)))) == 1
    assert "x: accuracy unchanged (McNemar)" in failed(accuracy_checks("x", real_loss, 4000, tolerance_for("bf16")))


def test_int8_with_too_much_noise_fails_the_signal_check():
    reference = np.random.default_rng(0).standard_normal((200, 5)) + 6 * np.eye(5)[np.arange(200) % 5]
    noisy = reference + np.random.default_rng(1).standard_normal((200, 5))
    names = failed(parity_checks("x", compare(reference, noisy), float(np.abs(reference).max()), tolerance_for("int8")))
    assert names == ["x: signal to noise"]
    quiet = reference + 0.1 * np.random.default_rng(1).standard_normal((200, 5))
    assert failed(parity_checks("x", compare(reference, quiet), 7.0, tolerance_for("int8"))) == []


def test_a_flip_passes_only_within_rounding():
    reference = np.full((1000, 2), [10.0, 0.0])
    tie, real = reference.copy(), reference.copy()
    base = reference.copy()
    base[0] = [10.0, 10.0 - 1e-4]
    tie[0] = [10.0 - 1e-4, 10.0]
    assert failed(parity_checks("m", compare(base, tie), 10.0, F32)) == []
    real[0] = [0.0, 10.0]
    assert "m: margin of changed classes" in failed(parity_checks("m", compare(reference, real), 10.0, F32))


def names(checks) -> str:
    return " | ".join(f"{check.name} {check.detail}" for check in checks if not check.passed)


def test_accuracy_fails_only_on_a_significant_drop():
    few, many = (PairedAccuracy.of_counts(lost, 2, 200) for lost in (2, 20))
    assert names(accuracy_checks("m", few, 200, TOLERANCES["bf16"])) == ""
    failed = names(accuracy_checks("m", many, 200, F32))
    assert "McNemar" in failed
    assert "20 became wrong and 2 correct" in failed


def test_a_loss_beyond_the_margin_fails_even_if_not_significant():
    paired = PairedAccuracy.of_counts(6, 1, 200)
    assert paired.p_value > F32.alpha
    assert "accuracy loss" in names(accuracy_checks("m", paired, 200, F32))


@pytest.mark.parametrize("tolerance", TOLERANCES.values())
@pytest.mark.parametrize("images", [1, 20, 360, 100_000])
def test_an_equal_model_and_one_lost_image_are_never_inferior(tolerance, images):
    for lost in (0, 1):
        assert names(accuracy_checks("m", PairedAccuracy.of_counts(lost, 0, images), images, tolerance)) == ""


def test_more_images_detect_a_smaller_loss():
    lost = {images: PairedAccuracy.of_counts(images // 100, 0, images) for images in (100, 20_000)}
    assert "accuracy loss" not in names(accuracy_checks("m", lost[100], 100, F32))
    assert "accuracy loss" in names(accuracy_checks("m", lost[20_000], 20_000, F32))


@pytest.mark.parametrize("stored", [None, (), ("a",), ("b", "a"), ("a", "b", "c"), ("a", "B")])
def test_other_class_names_fail(stored):
    assert not labels_check("m", stored, ("a", "b")).passed
    assert labels_check("m", ("a", "b"), ("a", "b")).passed


@pytest.mark.parametrize(
    ("correct", "total", "classes", "passed"),
    [
        (0, 1000, 2, False),
        (500, 1000, 2, False),
        (526, 1000, 2, False),
        (527, 1000, 2, True),
        (12, 36, 3, False),
        (18, 36, 3, True),
        (36, 36, 3, True),
        (2, 4, 2, False),  # four images never show significance, so more than chance is enough
        (3, 4, 2, True),
    ],
)
def test_a_model_must_be_significantly_better_than_chance(correct, total, classes, passed):
    check = chance_check(Accuracy.of_counts(correct, total), 1 / classes)
    assert check.name == "model: better than chance"
    assert check.passed == passed
    assert f"chance is {100 / classes:.1f} %" in check.detail


def test_a_model_that_always_gives_the_most_frequent_class_is_at_chance():
    labels = np.repeat([0, 1], [90, 10])
    meter = MetricsMeter()
    meter.add(np.tile([2.0, 0.0], (100, 1)), labels)
    assert meter.result().chance == pytest.approx(0.9)
    assert not chance_check(Accuracy.of_counts(90, 100), meter.result().chance).passed


def test_a_useful_model_on_unequal_classes_is_above_chance_below_the_most_frequent_share():
    labels, found = np.repeat([0, 1], [90, 10]), np.repeat([0, 1, 1], [75, 15, 10])
    meter = MetricsMeter()
    meter.add(np.eye(2)[found], labels)
    assert meter.result().chance == pytest.approx(0.9 * 0.75 + 0.1 * 0.25)
    assert chance_check(Accuracy.of_counts(85, 100), meter.result().chance).passed


def test_chance_equals_the_kappa_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn computes kappa independently")
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 4, 200), rng.integers(0, 4, 200) // 2
    meter = MetricsMeter()
    meter.add(np.eye(4)[found], labels)
    accuracy, chance = (labels == found).mean(), meter.result().chance
    assert (accuracy - chance) / (1 - chance) == pytest.approx(metrics.cohen_kappa_score(labels, found))


def test_the_least_accuracy_holds_for_the_lower_end_of_the_interval():
    accuracy = Accuracy.of_counts(90, 100)
    assert least_accuracy_check(accuracy, 0.82).passed
    check = least_accuracy_check(accuracy, 0.85)
    assert (check.name, check.passed, check.value) == ("model: accuracy", False, accuracy.low)
    assert "90.0 % on 100 test images" in check.detail
