"""Outcomes of the gate against numbers computed by hand."""

from __future__ import annotations

import math

import pytest

from tcs_edge.gate.baseline import Baseline
from tcs_edge.gate.judge import apart, judge
from tcs_edge.gate.limits import GateLimits
from tcs_edge.gate.measures import QUANTITIES, Measure
from tcs_edge.gate.subject import Requirement, Subject


def outcome(measures, limits: dict, base: dict | None = None, key: str | None = None):
    subject = Subject("m", tuple(measures))
    result = judge(subject, GateLimits.model_validate(limits), None if base is None else Baseline("b", base))
    return next(check for check in result.checks if check.key == (key or measures[0].key))


@pytest.mark.parametrize(
    ("value", "expected"), [(4.5, "pass"), (4.5000001, "warn"), (5.0, "warn"), (5.0000001, "fail"), (math.nan, "fail")]
)
def test_an_upper_limit(value, expected):
    check = outcome([Measure("size_mb", value)], {"max_size_mb": {"fail": 5.0, "warn": 4.5}})
    assert check.outcome == expected
    assert bool(check.reasons) == (expected != "pass")
    assert ("warning level" in " ".join(check.reasons)) == (expected == "warn")


@pytest.mark.parametrize(("low", "expected"), [(0.96, "pass"), (0.95, "pass"), (0.94, "warn"), (0.89, "fail")])
def test_accuracy_is_judged_by_its_lower_end(low, expected):
    measures = [Measure("accuracy", 0.97, "onnxruntime", bound=low)]
    check = outcome(measures, {"min_accuracy": {"fail": 0.9, "warn": 0.95}})
    assert check.outcome == expected
    assert check.value == 0.97


def test_latency_is_judged_by_its_upper_end():
    check = outcome([Measure("latency_ms", 10.0, bound=21.0)], {"max_latency_ms": 20})
    assert check.outcome == "fail"
    assert "upper end" in check.reasons[0]


@pytest.mark.parametrize("quantity", sorted(QUANTITIES))
@pytest.mark.parametrize("measures", [[], None])
def test_a_missing_number_fails_its_limit(quantity, measures):
    known = [Measure(quantity, None)] if measures is None else []
    check = outcome(known, {QUANTITIES[quantity].limit: 1.0}, key=quantity)
    assert check.outcome == "fail"
    assert "cannot check this limit" in check.reasons[0]


@pytest.mark.parametrize("quantity", ["size_mb", "params_m", "latency_ms", "accuracy"])
def test_a_change_without_baseline_or_its_number_fails(quantity):
    limits = {"change": {quantity: 1.0}}
    assert "no baseline" in outcome([Measure(quantity, 0.5)], limits).reasons[0]
    assert "no number in the baseline" in outcome([Measure(quantity, 0.5)], limits, {}).reasons[0]
    assert outcome([], limits, {quantity: 0.5}, key=quantity).outcome == "fail"


@pytest.mark.parametrize(
    ("value", "allowed", "expected"),
    [
        (4.0, 0, "pass"),
        (3.0, 0, "pass"),
        (4.1, 0, "fail"),
        (4.2, "5 %", "pass"),
        (4.21, "5 %", "fail"),
        (4.1, {"fail": "5 %", "warn": "1 %"}, "warn"),
        (4.1, {"fail": 0.2, "warn": 0.05}, "warn"),
    ],
)
def test_growth_against_the_baseline(value, allowed, expected):
    check = outcome([Measure("size_mb", value)], {"change": {"size_mb": allowed}}, {"size_mb": 4.0})
    assert check.outcome == expected
    assert check.change == pytest.approx(value - 4.0)
    assert check.change_percent == pytest.approx(25 * (value - 4.0))


@pytest.mark.parametrize(("value", "expected"), [(0.95, "pass"), (0.89, "pass"), (0.88, "fail")])
def test_a_lower_accuracy_is_worse(value, expected):
    measures = [Measure("accuracy", value, "onnxruntime")]
    check = outcome(measures, {"change": {"accuracy": 0.015}}, {"accuracy/onnxruntime": 0.9})
    assert check.outcome == expected


def test_a_baseline_of_zero():
    limits = {"change": {"params_m": "5 %"}}
    assert outcome([Measure("params_m", 0.0)], limits, {"params_m": 0.0}).outcome == "pass"
    grown = outcome([Measure("params_m", 0.1)], limits, {"params_m": 0.0})
    assert grown.outcome == "fail"
    assert grown.change_percent is None


def test_a_missing_runtime_fails_the_change_of_accuracy():
    base = {"accuracy/onnxruntime": 0.9, "accuracy/openvino": 0.9}
    measures = [Measure("accuracy", 0.9, "onnxruntime")]
    assert outcome(measures, {"change": {"accuracy": 0.0}}, base, "accuracy/openvino").outcome == "fail"


def test_the_accuracy_limit_applies_to_every_runtime():
    measures = [Measure("accuracy", 0.9, "a"), Measure("accuracy", 0.8, "b")]
    assert outcome(measures, {"min_accuracy": 0.85}, key="accuracy/a").outcome == "pass"
    assert outcome(measures, {"min_accuracy": 0.85}, key="accuracy/b").outcome == "fail"


@pytest.mark.parametrize(
    ("limits", "kept", "verdict"),
    [
        ({}, None, "fail"),
        ({}, True, "pass"),
        ({}, False, "fail"),
        ({"max_size_mb": 5}, True, "pass"),
        ({"max_size_mb": 5}, False, "fail"),
        ({"max_size_mb": 3}, True, "fail"),
        ({"max_size_mb": {"warn": 3}}, True, "warn"),
    ],
)
def test_the_verdict_is_the_worst_outcome_and_fails_without_checks(limits, kept, verdict):
    requirements = () if kept is None else (Requirement("files unchanged", kept),)
    result = judge(Subject("m", (Measure("size_mb", 4.0),), requirements), GateLimits.model_validate(limits), None)
    assert result.verdict == verdict


def test_different_numbers_are_shown_with_enough_digits():
    assert apart(5.0000001, 5.0, "MB") == ("5.0000001 MB", "5 MB")
    assert apart(0.94999, 0.95, "share") == ("94.999 %", "95 %")


@pytest.mark.parametrize(
    ("quantity", "value", "base", "allowed", "shown", "reason"),
    [
        ("accuracy", 0.95, 0.97, 0.01, "1 point", "2 points worse than the baseline, 1 point is allowed"),
        ("size_mb", 5.0, 4.0, 0.2, "0.2 MB", "1 MB (25 %) worse than the baseline, 0.2 MB is allowed"),
        ("size_mb", 5.0, 4.0, "5 %", "5 %", "1 MB (25 %) worse than the baseline, 5 % is allowed"),
    ],
)
def test_a_change_and_its_limit_have_the_same_unit(quantity, value, base, allowed, shown, reason):
    check = outcome([Measure(quantity, value)], {"change": {quantity: allowed}}, {quantity: base})
    assert check.allowed_change == shown
    assert check.reasons == (reason,)
