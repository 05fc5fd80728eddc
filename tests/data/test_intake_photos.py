"""Large photos are decoded once: the passes after the check find its pixels, equal to those of their own decoding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tcs_edge.data import Preprocess, images, intake_photos, load_images
from tcs_edge.data.cache import keep_decoded, with_copies
from tcs_edge.data.decode import decoded_bytes, inspect, open_rgb
from tcs_edge.data.intake_photos import IntakePhotos
from tcs_edge.data.thumbnail import unit_rows
from tcs_edge.specs.config import CompressConfig
from tcs_edge.stages.prepare import list_students
from tcs_edge.teachers.batches import batch_loader

PREP = Preprocess(224)
SIZE = (1500, 1400)  # decoded at half of it for views of 224 px
BYTES = 3 * 750 * 700


@pytest.fixture
def folder(tmp_path, picture):
    """Four photos of two classes in train: upright, turned by EXIF, gray and progressive; and others to split off."""
    exif = Image.Exif()
    exif[0x0112] = 6
    forms = [{}, {"exif": exif}, {"mode": "L"}, {"progressive": True}]
    for seed, form in enumerate(forms):
        place = tmp_path / "data/train" / "ab"[seed % 2]
        place.mkdir(parents=True, exist_ok=True)
        photo = picture(seed, *SIZE).convert(form.pop("mode", "RGB"))
        photo.save(place / f"{seed}.jpg", quality=80, **form)
    for seed, split in enumerate(("val", "val", "test", "test"), 10):
        place = tmp_path / "data" / split / "ab"[seed % 2]
        place.mkdir(parents=True)
        picture(seed, 40, 30).save(place / "small.jpg")
    picture(20, *SIZE).save(tmp_path / "data/train/a/large.png")
    return tmp_path / "data"


@pytest.fixture
def loaded(folder, tmp_path):
    def load(most_bytes=10**9):
        photos = IntakePhotos(most_bytes, tmp_path)
        found = load_images(folder, cache_dir=tmp_path / "cache", photos=photos)
        return replace(found, train=replace(found.train, photos=photos), val=replace(found.val, photos=photos))

    return load


def kept(split, side=224):
    return [split.names[row] for row in range(len(split)) if not split.decoded_bytes(row, side)]


@pytest.mark.parametrize("workers", [0, 1])
def test_neither_the_teachers_pass_nor_the_training_decodes_a_photo_of_the_check(loaded, monkeypatch, workers):
    found = loaded()
    photos = ["train/a/0.jpg", "train/a/2.jpg", "train/b/1.jpg", "train/b/3.jpg"]
    assert kept(found.train) == photos
    assert not kept(found.val)
    rows = [row for row, name in enumerate(found.train.names) if name in photos]
    expected = [open_rgb(found.train.sources[row], 224) for row in rows]
    train = with_copies(found, PREP, 1, None).train
    other = keep_decoded(replace(found.train, photos=None), PREP)
    copies = [np.asarray(other.image(row)) for row in rows]
    monkeypatch.setattr(images, "open_rgb", lambda *_: pytest.fail("decoded again"))
    views = [next(iter(batch_loader(train, PREP, [np.array([row])], workers))) for row in rows]
    for row, photo, view, copy in zip(rows, expected, views, copies, strict=True):
        assert np.array_equal(found.train.image(row, 224), photo)
        assert np.array_equal(view[0], PREP.crop(photo))
        assert np.array_equal(keep_decoded(found.train, PREP).image(row), copy)


def test_another_reduction_or_every_pixel_is_decoded(loaded):
    train = loaded().train
    assert (kept(train, 60), kept(train, None), len(kept(train, 232))) == ([], [], 4)
    assert np.array_equal(train.image(0, 60), open_rgb(train.sources[0], 60))
    assert np.array_equal(train.image(0), open_rgb(train.sources[0]))


def test_photos_without_room_are_decoded_with_the_same_pixels(loaded, tmp_path):
    some = loaded(2 * BYTES + 10)
    assert len(kept(some.train)) == 2
    assert [np.array_equal(some.train.image(row, 224), open_rgb(some.train.sources[row], 224)) for row in range(5)]


def test_copies_for_the_training_come_first(loaded):
    found = loaded()
    copies = with_copies(found, PREP, 1, None)
    needed = copies.train.working.store.bytes + copies.val.crops.store.bytes
    with_copies(found, PREP, (needed + BYTES) / 1e9, None)
    assert len(kept(found.train)) == 1
    assert np.array_equal(found.train.image(0, 224), open_rgb(found.train.sources[0], 224))
    with_copies(found, PREP, 0, None)
    assert kept(found.train) == []


def test_a_full_disk_keeps_none(loaded, monkeypatch):
    class Full:
        seek = truncate = flush = close = lambda *_: None

        def write(self, _pixels):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(intake_photos, "_temporary_file", lambda _folder: Full())
    train = loaded().train
    assert kept(train) == []
    assert np.array_equal(train.image(0, 224), open_rgb(train.sources[0], 224))


def test_only_new_photos_are_decoded_by_the_check(loaded):
    loaded()
    assert kept(loaded().train) == []


def test_only_a_run_keeps_them(folder, tmp_path):
    asked = {"target": "raspberrypi4", "student": "lcnet_050", "student_init": "random", "data": folder}
    config = CompressConfig.model_validate(asked | {"device": "cpu", "cache_dir": tmp_path / "cache"})
    assert len(kept(list_students(config, keep_photos=True).prepared().images.train)) == 4
    assert list_students(config).images.train.photos is None


def test_a_reduced_photo_has_the_sketch_and_the_size_of_the_file(tmp_path, picture):
    photo = picture(5, *SIZE)
    photo.save(tmp_path / "large.jpg", quality=80)
    photo.resize((300, 280)).save(tmp_path / "small.jpg", quality=80)
    large, small = (inspect(tmp_path / f"{name}.jpg") for name in ("large", "small"))
    rows = unit_rows(np.stack([np.frombuffer(one.sketch, np.int8) for one in (large, small)]))
    assert rows[0] @ rows[1] > 0.995
    assert ((large.width, large.height), large.photo.size) == (SIZE, (750, 700))
    assert small.photo is None
    assert BYTES < decoded_bytes(tmp_path / "large.jpg", check_only=True) < 6 * SIZE[0] * SIZE[1]
