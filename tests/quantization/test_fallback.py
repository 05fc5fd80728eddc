"""Fallback to float: order of the layers, number of rounds, and failure."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.quantization.fallback import Round, hold_accuracy
from tcs_edge.quantization.sensitivity import LayerCost

NOISES = {"a": 8.0, "b": 4.0, "c": 2.0, "d": 1.0, "e": 0.5, "f": 0.25}
COSTS = tuple(LayerCost(name, "Conv", noise) for name, noise in NOISES.items())


def needing(*needed: str):
    """Return an attempt(float_layers) that passes once all of `needed` compute in float."""

    def attempt(float_layers: tuple[str, ...]) -> Round:
        missing = set(needed) - set(float_layers)
        return Round(float_layers, 0.9, 0.0, 0.01, 20.0, ("accuracy",) if missing else (), 0.01)

    return attempt


def test_no_layer_returns_to_float_if_int8_passes():
    (only,) = hold_accuracy(needing(), COSTS, rounds=6)
    assert only.held
    assert only.float_layers == ()


def test_the_most_sensitive_layers_return_first_and_each_round_halves_the_noise():
    rounds = hold_accuracy(needing("c"), COSTS, rounds=6)
    assert [made.float_layers for made in rounds] == [(), ("a",), ("a", "b"), ("a", "b", "c")]
    assert [made.held for made in rounds] == [False, False, False, True]


def test_the_fallback_ends_after_the_last_round():
    rounds = hold_accuracy(needing("f"), COSTS, rounds=2)
    assert len(rounds) == 3
    assert not rounds[-1].held


def test_at_least_one_layer_stays_in_int8():
    rounds = hold_accuracy(needing("f"), COSTS, rounds=60)
    assert rounds[-1].float_layers == tuple("abcde")
    assert not rounds[-1].held


@given(
    st.lists(st.integers(0, 10**12), min_size=1, max_size=12).map(lambda noises: sorted(noises, reverse=True)),
    st.integers(0, 20),
)
def test_every_round_adds_float_layers_until_the_end(noises, rounds):
    costs = tuple(LayerCost(str(index), "Conv", noise) for index, noise in enumerate(noises))
    made = hold_accuracy(needing("never"), costs, rounds)
    counts = [len(one.float_layers) for one in made]
    assert counts == sorted(set(counts))
    assert len(made) <= rounds + 1
    assert counts[-1] <= max(0, len(costs) - 1)


@pytest.mark.parametrize("sqnr_db", [math.inf, -math.inf, 12.5])
def test_a_round_can_be_written_as_json(sqnr_db):
    document = Round(("a",), 0.5, 0.1, 0.2, sqnr_db, ("same class",), 0.01).to_json()
    assert json.loads(json.dumps(document, allow_nan=False))["held"] is False


def test_a_loss_within_the_limit_that_is_not_shown_has_not_held():
    made = Round((), 0.9, 0.0, 0.073, 20.0, (), 0.01)  # 0 of 30 images lost, at most 7.3 points at 95 %
    assert (made.passed, made.held) == (True, False)
    rounds = hold_accuracy(lambda float_layers: made, COSTS, rounds=3)
    assert len(rounds) == 4
    assert len(hold_accuracy(lambda float_layers: made, COSTS, 3, lambda one: one.passed)) == 1
