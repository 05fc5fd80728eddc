from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tcs_edge.data import Preprocess, Split
from tcs_edge.data.cache import DecodedImages, crop_all, keep_decoded
from tcs_edge.errors import DataError

PREP = Preprocess(16)


@pytest.fixture
def split(tmp_path, picture):
    """Two small images, one of 100 x 50 pixels, and one with an EXIF rotation."""
    sizes = [(12, 9), (16, 20), (100, 50), (60, 41)]
    exif = Image.Exif()
    exif[0x0112] = 6
    for index, size in enumerate(sizes):
        picture(index, *size).save(tmp_path / f"{index}.png", **({"exif": exif} if index == 3 else {}))
    paths = tuple(tmp_path / f"{index}.png" for index in range(4))
    return Split(paths, np.arange(4, dtype=np.int64), tuple(path.name for path in paths))


def test_small_images_are_kept_unchanged_and_large_ones_shrunk(split, recorder):
    kept = keep_decoded(split, PREP)
    assert isinstance(kept, DecodedImages)
    assert [kept.image(index).size for index in range(4)] == [(12, 9), (16, 20), (40, 20), (20, 29)]
    for index in (0, 1):
        assert np.array_equal(kept.image(index), split.image(index))
    expected = split.image(3).resize((20, 29), Image.Resampling.BILINEAR)
    assert np.array_equal(kept.image(3), expected)
    assert kept.labels.tolist() == [0, 1, 2, 3]
    assert kept.pixels.nbytes == 3 * (12 * 9 + 16 * 20 + 40 * 20 + 20 * 29)
    assert recorder.tracked == [("Decoding images", 4)]


def test_images_beyond_the_limit_are_read_from_disk(split, recorder):
    assert keep_decoded(split, PREP, cache_mb=0.005) is split
    assert recorder.details[0].startswith("decoded image cache: off (0 MB needed, limit 0 MB)")


def test_images_in_memory_are_not_copied():
    split = Split(np.zeros((2, 8, 8), np.uint8), np.zeros(2, np.int64), ("a", "b"))
    assert keep_decoded(split, PREP) is split


def test_error_names_a_deleted_file(split, tmp_path):
    (tmp_path / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png"):
        keep_decoded(split, PREP)


def test_cropped_images_are_one_array_in_the_order_of_the_rows(split, recorder):
    views = crop_all(split, [3, 0], PREP, "decoding")
    assert (views.shape, views.dtype) == ((2, 16, 16, 3), np.uint8)
    for view, row in zip(views, (3, 0), strict=True):
        assert np.array_equal(view, PREP.crop(split.image(row)))
    assert recorder.tracked == [("decoding", 2)]
    assert crop_all(split, [], PREP, "decoding").shape == (0, 16, 16, 3)
