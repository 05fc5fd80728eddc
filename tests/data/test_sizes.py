"""Typical image size of a split."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tcs_edge.data import sizes
from tcs_edge.data.images import Split
from tcs_edge.data.sizes import typical_side
from tcs_edge.errors import DataError


def split_of(paths: list) -> Split:
    return Split(tuple(paths), np.zeros(len(paths), np.int64), tuple(path.name for path in paths))


def test_typical_side_is_the_median_of_the_shorter_sides(tmp_path):
    shapes = [(100, 30), (30, 100), (64, 64), (500, 400), (40, 41)]
    paths = []
    for index, shape in enumerate(shapes):
        paths.append(tmp_path / f"{index}.png")
        Image.new("RGB", shape).save(paths[-1])
    assert typical_side(split_of(paths)) == np.median([min(shape) for shape in shapes])


@pytest.mark.parametrize("shape", [(3, 8, 11), (3, 8, 11, 3)])
def test_typical_side_of_images_in_memory(shape):
    assert typical_side(Split(np.zeros(shape, np.uint8), np.zeros(3, np.int64), ("a", "b", "c"))) == 8


def test_a_large_split_is_sampled_evenly(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Split, "size", lambda self, row: seen.append(row) or (1, 1))
    typical_side(Split(np.zeros((2000, 1, 1), np.uint8), np.zeros(2000, np.int64), ("x",) * 2000))
    assert len(seen) == len(set(seen)) == sizes.LOOKED_AT
    assert (seen[0], seen[-1]) == (0, 1999)


def test_error_names_a_file_that_is_not_an_image(tmp_path):
    (tmp_path / "fake.png").write_text("not an image")
    with pytest.raises(DataError, match=r"fake\.png"):
        typical_side(split_of([tmp_path / "fake.png"]))
