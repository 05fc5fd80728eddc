"""Tests of successive halving: its rounds, and which students stay with known accuracies."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.errors import TrainingDiverged
from tcs_edge.models.candidates import Candidate, SizedCandidate
from tcs_edge.search.halving import Round, by_halving, plan_rounds


def students(count: int, *sizes: int) -> list[SizedCandidate]:
    names = (Candidate(f"s{number:02d}", "cnn", 1.0, 10, 10, top1=50.0 + number) for number in range(count))
    return [SizedCandidate(candidate, size) for candidate in names for size in sizes or (32,)]


def by_name(found):
    return {sized.candidate.name: result for sized, result in found.items()}


def test_rounds_of_typical_searches():
    assert plan_rounds(20, 30) == (Round(20, 1), Round(7, 3), Round(3, 10))
    assert plan_rounds(2, 30) == (Round(2, 10),)
    assert plan_rounds(1, 1) == (Round(1, 1),)


@given(st.integers(1, 200), st.integers(1, 500))
def test_every_round_is_smaller_and_longer_than_the_one_before(count, epochs):
    rounds = plan_rounds(count, epochs)
    assert rounds[0].students == count
    assert rounds[-1].students <= 3
    for before, after in itertools.pairwise(rounds):
        assert after.students < before.students
        assert after.epochs >= before.epochs >= 1
    for planned in rounds:
        assert planned.students * planned.epochs <= max(planned.students, 2 * epochs)


class Planted:
    """Accuracies that rise with the student's number, except for a misleading early one of student 5."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __call__(self, sized: SizedCandidate, epochs: int) -> float:
        name = sized.candidate.name
        self.calls.append((name, epochs))
        number = int(name[1:])
        early = epochs < 10
        return 0.99 if early and number == 5 else number / 20


def test_best_student_is_left_and_rounds_are_logged(recorder):
    learn = Planted()
    found = by_name(by_halving(students(9), 30, learn))
    assert max(found, key=lambda name: (found[name].depth, found[name].percent)) == "s08"
    assert found["s08"].percent == pytest.approx(40)
    assert (found["s08"].search, found["s08"].depth, found["s00"].depth) == ("halving", 2, 1)
    assert "10 epochs at 32 px, round 2 of 2" in found["s08"].how
    assert [epochs for _, epochs in learn.calls] == [3] * 9 + [10] * 3
    assert {name for name, epochs in learn.calls if epochs == 10} == {"s05", "s07", "s08"}
    assert recorder.said[0] == "search halving, round 1 of 2: 9 students, 3 epochs each"
    assert recorder.said[1].startswith("  best: s05 at 32 px 99.0 %, s08 at 32 px 40.0 %")


def test_input_sizes_are_ranked_like_students():
    def learn(sized: SizedCandidate, epochs: int) -> float:
        return int(sized.candidate.name[1:]) / 100 + (0.5 if sized.img_size == 48 else 0.0)

    found = by_halving(students(3, 32, 48, 64), 30, learn)
    best = max(found, key=lambda sized: (found[sized].depth, found[sized].percent))
    assert (best.candidate.name, best.img_size) == ("s02", 48)
    assert {sized.img_size for sized, result in found.items() if result.depth == 2} == {48}
    assert len(found) == 9


def test_ties_keep_the_given_order():
    learn = lambda sized, epochs: 0.5  # noqa: E731
    found = by_name(by_halving(students(9), 30, learn))
    assert {name for name, result in found.items() if result.depth == 2} == {"s00", "s01", "s02"}


def test_diverged_student_gets_table_estimate_with_reason():
    def learn(sized: SizedCandidate, epochs: int) -> float:
        if sized.candidate.name != "s01":
            raise TrainingDiverged("the loss was NaN")
        return 0.3

    found = by_name(by_halving(students(4), 9, learn))
    assert (found["s01"].search, found["s01"].depth) == ("halving", 2)
    assert found["s03"].search == "table"
    assert "the loss was NaN" in found["s03"].how
    assert all(result.search == "table" for result in by_halving(students(2), 9, _never).values())


def _never(sized: SizedCandidate, epochs: int) -> float:
    raise TrainingDiverged("the loss was NaN")
