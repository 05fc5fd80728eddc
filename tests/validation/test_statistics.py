"""The statistics against their definitions, computed another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.validation.statistics import mcnemar_exact, wilson_interval

Z95 = 1.959963984540054


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_where_the_score_test_turns(counts):
    correct, total = counts
    share = correct / total
    for bound in wilson_interval(correct, total):
        # The interval's ends solve |share - p| = z sqrt(p (1 - p) / n).
        assert 0.0 <= bound <= 1.0
        score = abs(share - bound)
        assert math.isclose(score, Z95 * math.sqrt(bound * (1 - bound) / total), rel_tol=1e-6, abs_tol=1e-9)


def test_wilson_of_a_textbook_case():
    low, high = wilson_interval(90, 100)
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(correct, total):
    with pytest.raises(ValueError, match="correct <= total"):
        wilson_interval(correct, total)


def exact_p(first: int, second: int) -> float:
    n, least = first + second, min(first, second)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    return min(1.0, 2 * tail)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_counts_and_p_value(pairs):
    first, second = (np.array(column) for column in zip(*pairs, strict=True))
    test = mcnemar_exact(first, second)
    assert test.only_first == sum(a and not b for a, b in pairs)
    assert test.only_second == sum(b and not a for a, b in pairs)
    assert test.p_value == pytest.approx(exact_p(test.only_first, test.only_second))


def test_agreement_carries_no_information():
    right = np.array([True, False, True])
    assert mcnemar_exact(right, right).p_value == 1.0
