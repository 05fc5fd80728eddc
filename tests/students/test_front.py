from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.students.front import Merit, on_front

MERITS = st.builds(Merit, *(st.integers(1, 4).map(float) for _ in range(3)))


def test_a_student_that_is_worse_in_everything_is_not_on_the_front() -> None:
    good, slow, small = Merit(70, 5, 5), Merit(70, 6, 5), Merit(60, 9, 1)
    assert on_front([good, slow, small]) == [True, False, True]


def test_equals_stand_side_by_side_and_the_unknown_apart() -> None:
    assert on_front([Merit(70, 5, 5), None, Merit(70, 5, 5)]) == [True, False, True]
    assert on_front([]) == []


@given(st.lists(MERITS, min_size=1, max_size=8))
def test_who_is_off_the_front_is_beaten_by_someone_on_it(merits: list[Merit]) -> None:
    flags = on_front(merits)
    front = [merit for merit, on in zip(merits, flags, strict=True) if on]
    assert front
    for merit, on in zip(merits, flags, strict=True):
        assert any(other.beats(merit) for other in front) == (not on)
