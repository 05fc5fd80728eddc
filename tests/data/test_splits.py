from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcs_edge.data.splits import conflicting, draw_splits
from tcs_edge.errors import DataError

HELD_OUT = st.sampled_from([("test", "val"), ("val",)])


def distinct(counts):
    """Return labels and contents of `counts[c]` different images per class."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return labels, [f"image{row}" for row in range(len(labels))]


def draw(labels, contents, held_out=("test", "val"), seed=0):
    return draw_splits(labels, contents, [f"class{i}" for i in range(max(labels) + 1)], held_out, seed)


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(3, 60), min_size=2, max_size=5), held_out=HELD_OUT, seed=st.integers(0, 2**32))
def test_distinct_images_are_split_by_class(counts, held_out, seed):
    labels, contents = distinct(counts)
    parts = draw(labels, contents, held_out, seed)
    assert sorted(row for rows in parts.values() for row in rows) == list(range(len(labels)))
    for name in held_out:
        drawn = Counter(labels[row] for row in parts[name])
        assert drawn == {label: max(1, round(0.1 * count)) for label, count in enumerate(counts)}
    assert {labels[row] for row in parts["train"]} == set(range(len(counts)))
    assert parts == draw(labels, contents, held_out, seed)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=80),
    held_out=HELD_OUT,
    seed=st.integers(0, 1000),
)
def test_copies_share_a_split(rows, held_out, seed):
    """Random contents make copies within and between classes common."""
    rows += [(label, 100 + 10 * label + extra) for label in range(3) for extra in range(3)]
    labels, contents = [row[0] for row in rows], [str(row[1]) for row in rows]
    parts = draw(labels, contents, held_out, seed)
    assert sorted(row for drawn in parts.values() for row in drawn) == list(range(len(rows)))
    where = {}
    for name, drawn in parts.items():
        assert {labels[row] for row in drawn} == {0, 1, 2}
        for row in drawn:
            assert where.setdefault(contents[row], name) == name
    assert all(where[content] == "train" for content in conflicting(labels, contents))


def test_the_seed_changes_the_draw():
    labels, contents = distinct([50, 50])
    assert len({tuple(draw(labels, contents, seed=seed)["test"]) for seed in range(5)}) == 5


def test_many_copies_of_one_image_stay_in_train():
    labels, contents = [0] * 100 + [1] * 10, ["same"] * 80 + [f"i{n}" for n in range(30)]
    parts = draw(labels, contents)
    assert set(range(80)) <= set(parts["train"])
    assert sum(labels[row] == 0 for row in parts["test"]) == 10


@pytest.mark.parametrize(("held_out", "needed"), [(("test", "val"), 3), (("val",), 2)])
def test_error_for_a_small_class_gives_the_needed_number(held_out, needed):
    labels, contents = distinct([10, needed - 1])
    with pytest.raises(DataError, match=rf"'class1' is too small to split: {needed - 1} distinct.* {needed} are"):
        draw(labels, contents, held_out)
    draw(*distinct([10, needed]), held_out)


def test_copies_count_as_one_image():
    with pytest.raises(DataError, match="1 distinct images"):
        draw([0] * 5 + [1] * 9, [*"abcde", *["same"] * 9])
