"""Distance between two sets of logits."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tcs_edge.errors import DataError
from tcs_edge.validation.parity import Flip, ParityMeter, compare

logits = arrays(np.float32, array_shapes(min_dims=2, max_dims=2), elements=st.floats(-100, 100, width=32))


@given(logits)
def test_equal_logits_have_perfect_parity(values):
    parity = compare(values, values)
    assert (parity.max_abs_diff, parity.max_rel_diff, parity.top1_agreement) == (0.0, 0.0, 1.0)
    assert parity.max_centered_diff == 0.0
    assert parity.finite
    assert parity.flips == ()


@given(logits, st.floats(1e-3, 10))
def test_a_shift_of_one_logit_is_found(values, shift):
    moved = values.astype(np.float64)
    moved[-1, 0] += shift
    parity = compare(values.astype(np.float64), moved)
    assert parity.max_abs_diff == pytest.approx(shift, rel=1e-6)
    scale = np.abs(values).max()
    assert parity.max_rel_diff == (pytest.approx(shift / scale, rel=1e-5) if scale else math.inf)


@given(logits, st.integers(0, 2**32 - 1), st.floats(0, 5))
def test_a_small_difference_flips_small_margins_only(values, seed, size):
    noise = np.random.default_rng(seed).uniform(-size, size, values.shape)
    parity = compare(values, values + noise)
    for flip in parity.flips:
        assert -1e-6 <= flip.margin <= 2 * parity.max_abs_diff + 1e-6


def test_flips_have_index_classes_and_margin():
    parity = compare(np.array([[3.0, 1.0], [1.0, 1.5]]), np.array([[1.0, 3.0], [1.0, 1.5]]))
    assert parity.flips == (Flip(index=0, reference_class=0, model_class=1, margin=2.0),)
    assert parity.top1_agreement == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_nan_and_inf_are_never_equal(bad, side):
    pair = [np.ones((2, 3)), np.ones((2, 3))]
    pair[side][1, 1] = bad
    assert not compare(*pair).finite
    assert compare(pair[side], pair[side]).max_abs_diff == math.inf


def test_the_centered_difference_is_the_largest_of_all_images():
    parity = compare(np.array([[1.0, -1.0], [3.0, 1.0]]), np.array([[1.0, -1.0], [3.0, 2.0]]))
    assert parity.max_centered_diff == pytest.approx(0.5)  # (1, -1) became (0.5, -0.5)
    assert compare(np.zeros((1, 2)), np.array([[1.0, 2.0]])).max_centered_diff == math.inf


def test_a_shift_of_all_logits_of_an_image_is_no_centered_difference():
    parity = compare(np.array([[1.0, 0.0]]), np.array([[1.5, 0.5]]))
    assert parity.max_centered_diff == pytest.approx(0.0)
    assert parity.max_rel_diff == 0.5


def test_rounding_of_logits_near_zero_is_measured_against_the_other_images():
    reference = np.array([[4.0, -4.0, 0.0]] * 20 + [[0.01, -0.01, 0.0]])
    turned = reference + np.array([[0.0, 0.0, 0.0]] * 20 + [[0.0, 0.02, -0.02]])
    parity = compare(reference, turned)
    assert parity.max_centered_diff < 0.01
    assert parity.top1_agreement == 1.0


def test_a_turned_vector_of_usual_size_is_a_large_centered_difference():
    reference = np.array([[4.0, -4.0, 0.0]] * 21)
    turned = reference.copy()
    turned[-1] = [4.0, 0.0, -4.0]
    assert compare(reference, turned).max_centered_diff == pytest.approx(1.0)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2, 3), (1, 3)), ((0, 3), (0, 3)), ((3,), (3,))])
def test_different_shapes_are_refused(shapes):
    with pytest.raises(DataError):
        compare(np.ones(shapes[0]), np.ones(shapes[1]))


def test_json_has_no_nan():
    broken = compare(np.full((1, 2), np.nan), np.ones((1, 2))).to_json()
    assert json.loads(json.dumps(broken, allow_nan=False))["max_abs_diff"] is None


@given(logits, st.integers(1, 4))
def test_batches_accumulate_to_the_whole(values, size):
    other = np.sin(values.astype(np.float64) * 7) * 10
    meter = ParityMeter()
    for start in range(0, len(values), size):
        meter.add(values[start : start + size], other[start : start + size])
    whole, parts = compare(values, other), meter.result()
    assert parts.sqnr_db == pytest.approx(whole.sqnr_db, rel=1e-9, abs=1e-9)
    assert parts.top5_agreement == pytest.approx(whole.top5_agreement)
    assert (parts.max_rel_diff, parts.flipped, parts.top1_agreement) == (
        whole.max_rel_diff,
        whole.flipped,
        whole.top1_agreement,
    )
    assert {flip.index for flip in parts.flips} == {flip.index for flip in whole.flips}


def test_sqnr_is_the_power_of_the_logits_over_that_of_the_difference():
    reference = np.array([[3.0, 4.0], [0.0, 5.0]])
    assert compare(reference, reference + np.eye(2) / 2).sqnr_db == pytest.approx(20.0)
    assert compare(reference, reference).sqnr_db == math.inf
    assert compare(reference * 0, reference).sqnr_db == -math.inf


def test_top5_counts_the_shared_ones_of_the_five_best():
    reference = np.arange(10.0)[None]
    other = reference.copy()
    other[0, [9, 0]] = other[0, [0, 9]]
    assert compare(reference, other).top5_agreement == pytest.approx(0.8)
    assert compare(reference[:, :5], -reference[:, :5]).top5_agreement == 1.0


def test_flips_have_names_and_only_the_worst_are_kept(monkeypatch):
    monkeypatch.setattr("tcs_edge.validation.parity.KEPT_FLIPS", 3)
    reference = np.stack([np.arange(1.0, 11.0), np.zeros(10)], axis=1)
    meter = ParityMeter()
    for start in (0, 5):
        part = reference[start : start + 5]
        meter.add(part, part[:, ::-1], [f"{start + row}.png" for row in range(5)])
    parity = meter.result()
    assert parity.flipped == 10
    assert parity.top1_agreement == 0.0
    assert [(flip.image, flip.margin) for flip in parity.flips] == [("9.png", 10.0), ("8.png", 9.0), ("7.png", 8.0)]


def test_one_nonfinite_batch_makes_the_result_nonfinite():
    meter = ParityMeter()
    meter.add(np.ones((2, 2)), np.ones((2, 2)))
    meter.add(np.ones((2, 2)), np.full((2, 2), np.nan))
    meter.add(np.ones((2, 2)), np.ones((2, 2)))
    assert not meter.result().finite
    with pytest.raises(DataError, match="no logits to compare"):
        ParityMeter().result()
