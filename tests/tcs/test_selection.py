"""Tests of the feature selection: coordinates removed, pruning steps, coordinates kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.tcs.selection import FeatureSelection, Pruning, SelectionSchedule


@given(
    dims=st.integers(1, 300),
    fraction=st.floats(0.01, 1.0),
    points=st.lists(st.floats(0, 1), min_size=2, max_size=20),
)
def test_the_number_kept_never_rises_and_ends_at_the_fraction(dims, fraction, points):
    schedule = SelectionSchedule(kept_fraction=fraction)
    kept = [schedule.kept(dims, progress) for progress in sorted(points)]
    assert kept == sorted(kept, reverse=True)
    assert schedule.kept(dims, 0.0) == dims
    assert schedule.kept(dims, 1.0) == max(1, round(dims * fraction))


def test_coordinates_without_gradient_are_removed_first():
    selection = FeatureSelection(8, SelectionSchedule(kept_fraction=0.5, rounds=4))
    useful = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 1])
    for step in range(100):
        selection.zero_grad()
        (selection.mask() * useful).sum().backward()
        selection.after_backward(step, 100)
    assert selection.alive.nonzero().flatten().tolist() == [1, 3, 5, 7]
    removed = [index for pruning in selection.history for index in pruning.removed]
    assert sorted(removed) == [0, 2, 4, 6]


def test_removed_coordinates_are_exactly_zero_and_stay_removed():
    selection = FeatureSelection(6, SelectionSchedule(kept_fraction=0.5))
    for step in range(10):
        selection.zero_grad()
        (selection.mask() * torch.arange(6.0)).sum().backward()
        selection.after_backward(step, 10)
    assert selection.mask()[~selection.alive].tolist() == [0.0, 0.0, 0.0]
    before = selection.alive.clone()
    selection.after_backward(9, 10)
    assert torch.equal(selection.alive, before)


def test_kept_fraction_one_removes_nothing():
    selection = FeatureSelection(5, SelectionSchedule(kept_fraction=1.0))
    selection.mask().sum().backward()
    selection.after_backward(99, 100)
    assert selection.alive.all()
    assert selection.history == []


def test_history_round_trips_through_json():
    pruning = Pruning(3, (1, 2), (0.5, 0.25, 0.0))
    assert Pruning.from_json(pruning.to_json()) == pruning
    assert pruning.to_json()["removed"] == [1, 2]


def test_pruning_begins_after_the_start():
    schedule = SelectionSchedule(start=0.2, end=0.8, kept_fraction=0.1)
    assert schedule.kept(100, 0.2) == 100
    assert schedule.kept(100, 0.3) < 100
    assert schedule.kept(100, 0.8) == pytest.approx(10)


def test_schedule_after_the_mimic_warmup_is_the_same_schedule():
    schedule = SelectionSchedule(start=0.2, end=0.8, kept_fraction=0.1)
    later = schedule.after(0.5)
    assert later.kept(100, 0.5) == 100
    for share in (0.115, 0.215, 0.315, 0.415, 0.515, 0.615, 0.715, 0.815):
        assert later.kept(100, 0.5 + 0.5 * share) == schedule.kept(100, share)


def test_the_variance_ablation_removes_the_last_axes():
    selection = FeatureSelection(10, SelectionSchedule(0.0, 0.5, 0.4, rounds=3, by="variance"))
    for step in range(100):
        selection.weight.grad = torch.linspace(0.1, 2, 10)
        selection.after_backward(step, 100)
    assert selection.alive.nonzero().flatten().tolist() == [0, 1, 2, 3]
