"""How a demand is judged."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tcs_edge.errors import UsageError
from tcs_edge.validation.checks import (
    F32,
    TOLERANCES,
    accuracy_check,
    at_least,
    at_most,
    labels_check,
    parity_checks,
    tolerance_for,
)
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
    assert [t.min_cosine for t in order] == sorted((t.min_cosine for t in order), reverse=True)


def test_a_rounding_flip_passes_and_a_real_one_does_not():
    reference = np.full((1000, 2), [10.0, 0.0])
    tie, real = reference.copy(), reference.copy()
    base = reference.copy()
    base[0] = [10.0, 10.0 - 1e-4]
    tie[0] = [10.0 - 1e-4, 10.0]
    assert failed(parity_checks("m", compare(base, tie), 10.0, F32)) == []
    real[0] = [0.0, 10.0]
    assert "m: margin of changed classes" in failed(parity_checks("m", compare(reference, real), 10.0, F32))


def test_accuracy_passes_on_noise_and_fails_on_a_real_drop():
    labels = np.zeros(200, dtype=np.int64)
    right = np.tile([1.0, 0.0], (200, 1))
    few, many = right.copy(), right.copy()
    few[:4] = [0.0, 1.0]
    many[:20] = [0.0, 1.0]
    assert accuracy_check("m", right, few, labels, 0.01).passed
    assert not accuracy_check("m", right, many, labels, 0.01).passed
    assert "20 became wrong" in accuracy_check("m", right, many, labels, 0.01).detail


@pytest.mark.parametrize("stored", [None, (), ("a",), ("b", "a"), ("a", "b", "c"), ("a", "B")])
def test_other_class_names_fail(stored):
    assert not labels_check("m", stored, ("a", "b")).passed
    assert labels_check("m", ("a", "b"), ("a", "b")).passed
