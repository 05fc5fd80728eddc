"""Tests of `--budget`: its formats, and the epochs of a budget."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.bench.budget import BenchBudget, parse_budget
from tcs_edge.errors import UsageError


@pytest.mark.parametrize(
    ("text", "count", "unit"),
    [
        ("30-epochs", 30, "epochs"),
        ("200k-images", 200_000, "images"),
        ("1.5m-images", 1_500_000, "images"),
        (" 640-IMAGES ", 640, "images"),
    ],
)
def test_budget_is_number_and_unit(text, count, unit):
    assert parse_budget(text) == BenchBudget(count, unit)


@pytest.mark.parametrize(
    "text", ["", "30", "0-epochs", "0.5-epochs", "k-images", "-3-epochs", "1.2345k-images", "3-days"]
)
def test_other_formats_raise_with_examples(text):
    with pytest.raises(UsageError, match=r"unknown format .*\. Write 30-epochs, 200k-images"):
        parse_budget(text)


@given(st.text() | st.from_regex(r"[0-9.]{1,5}[km]?-(epochs|images)", fullmatch=True))
def test_parser_handles_any_text(text):
    with contextlib.suppress(UsageError):
        assert parse_budget(text).count >= 1


@given(st.integers(1, 10**6), st.integers(1, 10**4))
def test_images_seen_match_budget_within_half_a_pass(count, train_images):
    budget = BenchBudget(count, "images")
    if count < train_images:
        with pytest.raises(UsageError, match="less than one pass"):
            budget.epochs(train_images)
    else:
        assert abs(budget.epochs(train_images) * train_images - count) <= train_images / 2


def test_budget_in_epochs_is_independent_of_images():
    assert BenchBudget(7, "epochs").epochs(1) == BenchBudget(7, "epochs").epochs(10**6) == 7
