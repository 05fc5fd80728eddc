"""Calibration uses training images only, without copies under other names."""

from __future__ import annotations

import numpy as np
import pytest

from tcs_edge.data import ImageSet, Split
from tcs_edge.errors import DataError
from tcs_edge.quantization.calibration import calibration_split


def split(values: list[int], part: str) -> Split:
    pixels = np.array(values, np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    return Split(pixels, np.zeros(len(values), np.int64), tuple(f"{part}/{value}" for value in values))


def image_set(train: list[int], val: list[int], test: list[int]) -> ImageSet:
    parts = (split(values, name) for values, name in ((train, "train"), (val, "val"), (test, "test")))
    return ImageSet("photos", ("a",), *parts, fingerprint="")


def test_copies_of_evaluation_images_are_skipped_and_logged(recorder):
    images = image_set(list(range(40)), val=[3, 4, 100], test=[7, 101])
    chosen = calibration_split(images, 40, 0)
    assert {name.split("/")[1] for name in chosen.names} == {str(v) for v in range(40)} - {"3", "4", "7"}
    assert all(name.startswith("train/") for name in chosen.names)
    assert recorder.said == ["calibration: skipped 3 training images that are also evaluation images"]


def test_skipped_images_are_replaced_by_the_next_ones():
    images = image_set(list(range(40)), val=list(range(20)), test=[])
    assert len(calibration_split(images, 20, 0)) == 20


def test_a_train_split_of_evaluation_images_is_an_error():
    with pytest.raises(DataError, match=r"has 2.*Remove the copies"):
        calibration_split(image_set(list(range(40)), val=list(range(38)), test=[]), 20, 0)


def test_the_seed_selects_the_images():
    images = image_set(list(range(200)), val=[250], test=[251])
    first, again, other = (calibration_split(images, 16, seed).names for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == 16
