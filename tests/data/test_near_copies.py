"""Near copies in train and in test stop a run, and drawn splits keep them together."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcs_edge.data import load_images, near_copies
from tcs_edge.data.unlabeled import with_unlabeled
from tcs_edge.errors import DataError
from tests.altered import altered


def scene(seed: int, side: int = 96) -> Image.Image:
    """A random image with large and small structure, as photos have it."""
    draw = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for cells in (3, 6, 12, 24, 48):
        coarse = draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), float) / cells
    total -= total.min()
    return Image.fromarray((255 * total / total.max()).astype(np.uint8))


HOW = ("encoded", "resized", "mirrored", "moved")


def write(folder: Path, counts: dict[str, int], first: int = 0) -> None:
    for part, count in counts.items():
        for label, name in enumerate(("cat", "dog")):
            place = folder / part / name
            place.mkdir(parents=True)
            for index in range(count):
                scene(first + 1000 * len(part) + 100 * label + index).save(place / f"{index:02d}.png")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """train/, val/ and test/ with two classes of different scenes."""
    write(tmp_path / "pets", {"train": 8, "val": 3, "test": 4})
    return tmp_path / "pets"


@pytest.mark.parametrize("how", HOW)
def test_near_copies_in_train_and_test_stop_the_run(pets, how, recorder, tmp_path) -> None:
    assert load_images(pets, cache_dir=tmp_path / "cache", allow_leaks=False).test_copies == 0
    altered(Image.open(pets / "train/cat/03.png"), how).save(pets / "test/dog/copy.png")
    named = r"1 images of test are near copies of images in train: test/dog/copy\.png \(train/cat/03\.png\)"
    for _ in range(2):  # the second time from the store
        with pytest.raises(DataError, match=f"{named}.*tcs-edge check.*--allow-leaks"):
            load_images(pets, cache_dir=tmp_path / "cache", allow_leaks=False)
    assert load_images(pets, cache_dir=tmp_path / "cache").test_copies == 1
    assert any("near copies of images in train" in line for line in recorder.warned)


def test_a_photo_turned_by_exif_is_a_copy_of_the_turned_pixels(pets, tmp_path) -> None:
    original = Image.open(pets / "train/cat/03.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    original.transpose(Image.Transpose.ROTATE_90).save(pets / "test/cat/turned.jpg", quality=90, exif=exif)
    with pytest.raises(DataError, match=r"test/cat/turned\.jpg \(train/cat/03\.png\)"):
        load_images(pets, cache_dir=tmp_path / "cache", allow_leaks=False)


def fixed_camera(folder: Path, counts: dict[str, int]) -> None:
    """Write images of one background with small objects; the color of the object is its class."""
    background, number = scene(5, 128), 0
    for part, count in counts.items():
        for name, color in (("blue", (0, 0, 220)), ("red", (220, 0, 0)), ("white", (240, 240, 240))):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                number += 1
                image, left, top = background.copy(), number * 29 % 110, number * 47 % 110
                image.paste(color, (left, top, left + 8, top + 8))
                image.save(folder / part / name / f"{index:02d}.png")


def test_images_of_a_fixed_camera_are_no_copies(tmp_path, recorder) -> None:
    fixed_camera(tmp_path / "belt", {"train": 12, "val": 4, "test": 4})
    images = load_images(tmp_path / "belt", cache_dir=tmp_path / "cache", allow_leaks=False)
    assert images.test_copies == 0
    assert not recorder.warned
    assert any("have different labels, as images of a fixed camera do" in line for line in recorder.said)
    shutil.copytree(tmp_path / "belt/test", tmp_path / "drawn")
    fixed_camera(tmp_path / "more", {"": 20})
    for path in (tmp_path / "more").rglob("*.png"):
        Image.open(path).convert("L").save(path)
    both = with_unlabeled(images, tmp_path / "more", cache_dir=tmp_path / "cache")
    assert both.counts()["unlabeled"] == 60
    shutil.copy(tmp_path / "belt/train/red/00.png", tmp_path / "belt/test/red/same.png")
    with pytest.raises(DataError, match=r"1 images of test are also in train: test/red/same\.png"):
        load_images(tmp_path / "belt", cache_dir=tmp_path / "cache", allow_leaks=False)
    drawn = load_images(tmp_path / "drawn", cache_dir=tmp_path / "cache", allow_leaks=False)
    assert len(drawn.test) == 3


def test_near_copies_in_val_are_a_warning(pets, recorder, tmp_path) -> None:
    altered(Image.open(pets / "train/cat/03.png"), "mirrored").save(pets / "val/cat/copy.png")
    assert load_images(pets, cache_dir=tmp_path / "cache", allow_leaks=False).test_copies == 0
    assert any("1 images of val are near copies of images in train" in line for line in recorder.warned)


def test_equal_and_near_copies_are_counted_once(pets, tmp_path) -> None:
    shutil.copy(pets / "train/cat/03.png", pets / "test/cat/same.png")
    altered(Image.open(pets / "train/cat/03.png"), "mirrored").save(pets / "test/cat/near.png")
    shutil.copy(pets / "test/cat/near.png", pets / "test/cat/near2.png")
    assert load_images(pets, cache_dir=tmp_path / "cache").test_copies == 3


def bursts(folder: Path, of_class: int, shots: int) -> None:
    """Write class folders of `of_class` scenes with `shots` photos each."""
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(of_class):
            image = scene(100 * label + number)
            for shot in range(shots):
                image.crop((shot, 0, 96, 96 - shot)).save(folder / name / f"{number:02d}-{shot}.jpg", quality=92)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_drawn_splits_keep_bursts_together(tmp_path, seed) -> None:
    bursts(tmp_path / "pets", of_class=10, shots=3)
    images = load_images(tmp_path / "pets", seed, cache_dir=tmp_path / "cache", allow_leaks=False)
    assert images.counts() == {"train": 48, "val": 6, "test": 6}
    parts = [{name.rsplit("-")[0] for name in split.names} for split in (images.train, images.val, images.test)]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert images.test_copies == 0


def test_a_class_that_is_one_burst_is_divided_with_a_warning(tmp_path, recorder) -> None:
    bursts(tmp_path / "pets", of_class=1, shots=6)
    images = load_images(tmp_path / "pets", cache_dir=tmp_path / "cache", allow_leaks=False)
    assert images.test_copies == len(images.test) == 2
    assert any("drawn splits divide near copies" in line for line in recorder.warned)


def test_a_second_look_compares_nothing(pets, tmp_path, monkeypatch) -> None:
    altered(Image.open(pets / "train/cat/03.png"), "mirrored").save(pets / "train/cat/copy.png")
    first = load_images(pets, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(near_copies, "_searched", lambda *_: pytest.fail("compared again"))
    assert load_images(pets, cache_dir=tmp_path / "cache").fingerprint == first.fingerprint


@pytest.mark.parametrize("how", HOW)
def test_unlabeled_near_copies_of_held_out_images_are_left_out(pets, how, recorder, tmp_path, monkeypatch) -> None:
    write(tmp_path / "more", {"": 3}, first=90_000)
    for part in ("train", "val", "test"):
        altered(Image.open(pets / part / "cat/02.png"), how).save(tmp_path / f"more/{part}.png")
    images = load_images(pets, cache_dir=tmp_path / "cache")
    first = with_unlabeled(images, tmp_path / "more", cache_dir=tmp_path / "cache")
    assert first.counts()["unlabeled"] == 7
    assert "unlabeled/train.png" in first.train.names
    (line,) = recorder.warned
    assert line == (
        "unlabeled images left out: 2 are near copies of images in val or test: unlabeled/test.png (test/cat/02.png), "
        "unlabeled/val.png (val/cat/02.png)"
    )
    monkeypatch.setattr(near_copies, "_searched_in", lambda *_: pytest.fail("compared again"))
    again = with_unlabeled(images, tmp_path / "more", cache_dir=tmp_path / "cache")
    assert again.unlabeled_fingerprint == first.unlabeled_fingerprint


def test_many_sketches_are_compared_in_bounded_memory() -> None:
    import tracemalloc

    from tcs_edge.data.thumbnail import unit_rows

    sketches = np.random.default_rng(0).normal(0, 18, (20_000, 48)).astype(np.int8)
    sketches[19_990:] = sketches[:10]
    tracemalloc.start()
    started = time.process_time()
    found = np.concatenate(list(near_copies._candidates(unit_rows(sketches))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.tolist() == [[row, 19_990 + row] for row in range(10)]
    assert time.process_time() - started < 60
    assert peak < 100e6


def test_small_drawings_are_compared_by_their_bytes_alone(tmp_path) -> None:
    for part, seed in (("train", 0), ("test", 1)):
        for name in ("one", "seven"):
            (tmp_path / "digits" / part / name).mkdir(parents=True)
            for index in range(4):
                image = np.zeros((28, 28), np.uint8)
                image[4:24, 13:16] = 250 - 4 * index - seed
                if name == "seven":
                    image[4:7, 5:15] = 250
                Image.fromarray(image).save(tmp_path / "digits" / part / name / f"{index}.png")
    assert load_images(tmp_path / "digits", cache_dir=tmp_path / "cache", allow_leaks=False).test_copies == 0
