from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.students.pareto import ParetoPoint, on_pareto_front

POINTS = st.builds(ParetoPoint, *(st.integers(1, 4).map(float) for _ in range(3)))


def test_a_beaten_student_is_not_on_the_front() -> None:
    good, slow, small = ParetoPoint(70, 5, 5), ParetoPoint(70, 6, 5), ParetoPoint(60, 9, 1)
    assert on_pareto_front([good, slow, small]) == [True, False, True]


def test_equal_students_are_both_on_the_front_and_unknown_ones_are_not() -> None:
    assert on_pareto_front([ParetoPoint(70, 5, 5), None, ParetoPoint(70, 5, 5)]) == [True, False, True]
    assert on_pareto_front([]) == []


@given(st.lists(POINTS, min_size=1, max_size=8))
def test_every_student_off_the_front_is_beaten_by_one_on_it(points: list[ParetoPoint]) -> None:
    flags = on_pareto_front(points)
    front = [pareto_point for pareto_point, on in zip(points, flags, strict=True) if on]
    assert front
    for pareto_point, on in zip(points, flags, strict=True):
        assert any(other.beats(pareto_point) for other in front) == (not on)
