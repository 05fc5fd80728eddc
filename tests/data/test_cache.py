from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tcs_edge.data import ImageSet, Preprocess, Split, pixel_store
from tcs_edge.data.cache import DecodedImages, crop_all, keep_decoded, with_copies
from tcs_edge.data.loader import evaluation_loader
from tcs_edge.errors import DataError, MissingError
from tcs_edge.teachers.batches import batch_loader

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


def test_small_images_are_kept_unchanged_and_large_ones_shrunk(split):
    kept = keep_decoded(split, PREP)
    assert isinstance(kept, DecodedImages)
    for _ in range(2):  # made, and then kept
        assert [kept.image(index).size for index in range(4)] == [(12, 9), (16, 20), (40, 20), (20, 29)]
        for index in (0, 1):
            assert np.array_equal(kept.image(index), split.image(index))
        expected = split.image(3).resize((20, 29), Image.Resampling.BILINEAR)
        assert np.array_equal(kept.image(3), expected)
    assert kept.labels.tolist() == [0, 1, 2, 3]
    assert kept.copies.store.bytes == 3 * (12 * 9 + 16 * 20 + 40 * 20 + 20 * 29)


def test_each_image_is_decoded_once(split, monkeypatch):
    decoded = []
    plain = Split.image
    monkeypatch.setattr(Split, "image", lambda self, index, *side: decoded.append(index) or plain(self, index, *side))
    kept = keep_decoded(split, PREP)
    for index in (0, 1, 2, 3, 3, 2, 1, 0):
        kept.image(index)
    assert decoded == [0, 1, 2, 3]
    assert [kept.decoded_bytes(index) for index in range(4)] == [0, 0, 0, 0]


def test_images_without_room_are_decoded_again_with_the_same_pixels(split):
    whole, partial, nothing = (keep_decoded(split, PREP, gb) for gb in (1, 1e-6, 0))
    for _ in range(2):
        for index in range(4):
            pixels = [np.asarray(kept.image(index)) for kept in (whole, partial, nothing)]
            assert np.array_equal(pixels[0], pixels[1])
            assert np.array_equal(pixels[0], pixels[2])
    stored = [[kept.copies.store.get(index) is not None for index in range(4)] for kept in (whole, partial, nothing)]
    assert stored == [[True] * 4, [True, False, False, False], [False] * 4]


def test_a_full_disk_keeps_nothing(split, monkeypatch, recorder):
    def full(*_arguments):
        raise MissingError("the disk is full.")

    monkeypatch.setattr(pixel_store, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(pixel_store, "row_array", full)
    kept = keep_decoded(split, PREP)
    assert kept.image(2).size == kept.image(2).size == (40, 20)
    assert kept.copies.store.get(2) is None
    assert [line for line in recorder.warned if "the disk is full" in line]


def test_images_in_memory_are_not_copied():
    split = Split(np.zeros((2, 8, 8), np.uint8), np.zeros(2, np.int64), ("a", "b"))
    assert keep_decoded(split, PREP) is split


def test_error_names_a_deleted_file(split, tmp_path):
    (tmp_path / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png"):
        keep_decoded(split, PREP).image(2)


@pytest.fixture
def photos(tmp_path, picture):
    """Train of two large JPEGs, one with an EXIF rotation, and val of one; with room for copies."""
    exif = Image.Exif()
    exif[0x0112] = 6
    parts = []
    for name, count in (("train", 2), ("val", 1), ("test", 1)):
        paths = tuple(tmp_path / f"{name}{index}.jpg" for index in range(count))
        for index, path in enumerate(paths):
            picture(index, 400, 300).save(path, quality=90, **({"exif": exif} if index else {}))
        names = tuple(path.name for path in paths)
        parts.append(Split(paths, np.arange(count, dtype=np.int64), names))
    return with_copies(ImageSet("photos", ("a", "b"), *parts, fingerprint=""), PREP, 1, tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_teachers_pass_fills_the_working_copies(photos, workers):
    expected = [keep_decoded(replace(photos.train, working=None), PREP).image(index) for index in range(2)]
    list(batch_loader(photos.train, Preprocess(18), [np.array([0]), np.array([1])], workers))
    for index, image in enumerate(expected):
        assert np.array_equal(photos.train.working.get(index), image)
    assert [photos.train.working.get(index).size for index in range(2)] == [(27, 20), (20, 27)]


def test_another_decoding_does_not_fill_the_working_copies(photos):
    list(batch_loader(photos.train, Preprocess(60), [np.array([0, 1])], 0))
    assert photos.train.working.get(0) is None


def test_validation_images_are_decoded_once_and_exactly(photos, monkeypatch):
    expected = PREP(photos.val.image(0))
    first, again = (next(iter(evaluation_loader(photos.val, PREP, 4)))[0].numpy() for _ in range(2))
    assert np.array_equal(first[0], expected)
    assert np.array_equal(again[0], expected)
    monkeypatch.setattr(Split, "image", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(next(iter(evaluation_loader(photos.val, PREP, 4, workers=2)))[0][0], expected)


def test_other_preprocessing_or_other_rows_have_no_copies(photos):
    list(evaluation_loader(photos.val, PREP, 4))
    other = Preprocess(16, resize="stretch")
    assert np.array_equal(next(iter(evaluation_loader(photos.val, other, 4)))[0][0], other(photos.val.image(0)))
    assert photos.val.subset([0]).crops is None
    assert photos.train.subset([1]).working is None


def test_cropped_images_are_one_array_in_the_order_of_the_rows(split, recorder):
    views = crop_all(split, [3, 0], PREP, "decoding")
    assert (views.shape, views.dtype) == ((2, 16, 16, 3), np.uint8)
    for view, row in zip(views, (3, 0), strict=True):
        assert np.array_equal(view, PREP.crop(split.image(row)))
    assert recorder.tracked == [("decoding", 2)]
    assert crop_all(split, [], PREP, "decoding").shape == (0, 16, 16, 3)
