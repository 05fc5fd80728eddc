"""Statistics against an independent computation of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.validation.statistics import (
    accuracy_drop,
    images_to_show,
    least_above_chance,
    mcnemar_exact,
    wilson_interval,
)

Z95 = 1.959963984540054


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_solves_the_score_equation(counts):
    correct, total = counts
    share = correct / total
    for bound in wilson_interval(correct, total):
        # The interval's ends solve |share - p| = z sqrt(p (1 - p) / n).
        assert 0.0 <= bound <= 1.0
        score = abs(share - bound)
        assert math.isclose(score, Z95 * math.sqrt(bound * (1 - bound) / total), rel_tol=1e-6, abs_tol=1e-9)


def test_the_wilson_interval_of_a_textbook_case():
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


def test_equal_predictions_have_a_p_value_of_one():
    right = np.array([True, False, True])
    assert mcnemar_exact(right, right).p_value == 1.0


def test_the_drop_equals_a_case_computed_by_hand():
    # (6 - 2) / 102 + 1.644854 sqrt((8 / 102 - (4 / 102)^2) / 102)
    drop = accuracy_drop(5, 1, 100)
    assert drop.value == pytest.approx(0.04)
    assert drop.high == pytest.approx(4 / 102 + 1.644854 * math.sqrt((8 / 102 - (4 / 102) ** 2) / 102), rel=1e-6)


def test_the_bound_of_the_drop_has_its_nominal_coverage():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(200, [0.06, 0.02, 0.92], size=2000)
    covered = [accuracy_drop(int(lost), int(won), 200).high >= 0.04 for lost, won, _ in counts]
    assert 0.93 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError):
        accuracy_drop(*counts)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("total", [5, 36, 540])
def test_the_least_above_chance_is_the_first_significant_count(total, classes):
    def tail(correct: int) -> float:
        """Probability of at least `correct` images by chance."""
        ways = (math.comb(total, right) * (classes - 1) ** (total - right) for right in range(correct, total + 1))
        return sum(ways) / classes**total

    least = least_above_chance(total, 1 / classes)
    assert tail(least) <= 0.05 < tail(least - 1)


@pytest.mark.parametrize("margin", [0.003, 0.01, 0.03, 0.2])
def test_the_least_images_to_show_a_margin_are_the_first_with_a_bound_within_it(margin):
    least = images_to_show(margin)
    assert accuracy_drop(0, 0, least).high <= margin < accuracy_drop(0, 0, least - 1).high
    assert images_to_show(0.0) == math.inf


def test_too_few_images_for_significance_need_more_than_chance():
    assert least_above_chance(4, 1 / 2) == 3
    assert least_above_chance(1, 1 / 10) == 1
