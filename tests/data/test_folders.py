from __future__ import annotations

import os
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tcs_edge.data import load_images
from tcs_edge.errors import DataError


@pytest.fixture
def flat(tmp_path, fill):
    """Two classes of 20 and 30 images, without splits."""
    fill(tmp_path / "pets/cat", 20, seed=1)
    fill(tmp_path / "pets/dog", 30, seed=2)
    return tmp_path / "pets"


@pytest.fixture
def with_splits(tmp_path, fill):
    """train, val and test of two classes."""
    for seed, (part, count) in enumerate({"train": 10, "val": 4, "test": 3}.items()):
        fill(tmp_path / "pets" / part / "cat", count, seed=2 * seed)
        fill(tmp_path / "pets" / part / "dog", count, seed=2 * seed + 1)
    return tmp_path / "pets"


def names(images):
    return {*images.train.names, *images.val.names, *images.test.names}


def test_class_folders_are_split_80_10_10(flat, recorder):
    images = load_images(flat)
    assert (images.name, images.classes, images.builtin) == ("pets", ("cat", "dog"), False)
    assert (len(images.train), len(images.val), len(images.test)) == (40, 5, 5)
    assert Counter(images.test.labels.tolist()) == {0: 2, 1: 3}
    assert names(images) == {p.relative_to(flat).as_posix() for p in flat.rglob("*.png")}
    assert recorder.tracked == [("Checking images", 50)]
    assert not recorder.warned
    for split in (images.train, images.val, images.test):
        assert split.labels.dtype == np.int64
        assert [name.split("/")[0] for name in split.names] == [images.classes[i] for i in split.labels]
    assert np.array_equal(images.val.image(1), load_images(flat).val.image(1))


def test_existing_splits_are_kept(with_splits, recorder):
    images = load_images(with_splits)
    assert (len(images.train), len(images.val), len(images.test)) == (20, 8, 6)
    assert all(name.startswith("val/") for name in images.val.names)
    assert images.train.sources[0] == with_splits / "train/cat/000.png"
    assert not recorder.warned


@pytest.mark.parametrize("name", ["valid", "validation", "Val"])
def test_val_is_found_under_other_names(with_splits, name):
    (with_splits / "val").rename(with_splits / name)
    assert len(load_images(with_splits).val) == 8


def test_two_validation_folders_are_refused(with_splits):
    shutil.copytree(with_splits / "val", with_splits / "valid")
    with pytest.raises(DataError, match="both val/ and valid/"):
        load_images(with_splits)


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_single_held_out_folder_becomes_test(with_splits, recorder, missing):
    kept = {"val": "test", "test": "val"}[missing]
    shutil.rmtree(with_splits / missing)
    images = load_images(with_splits, seed=3)
    assert all(name.startswith(f"{kept}/") for name in images.test.names)
    assert all(name.startswith("train/") for name in (*images.val.names, *images.train.names))
    assert (len(images.train), len(images.val)) == (18, 2)
    assert f"splits: {kept}/ is used as test ({len(images.test)} images)" in recorder.said[0]


def test_an_incomplete_split_is_refused(with_splits):
    shutil.rmtree(with_splits / "val")
    shutil.move(with_splits / "test", with_splits.parent / "test")
    with pytest.raises(DataError, match=r"only train/\. Pass --data .*train to have it split"):
        load_images(with_splits)
    (with_splits / "train").rename(with_splits / "test")
    with pytest.raises(DataError, match="no train/"):
        load_images(with_splits)


def test_train_can_be_a_class_name(tmp_path, fill):
    for seed, name in enumerate(["bus", "train"]):
        fill(tmp_path / name, 5, seed)
    assert load_images(tmp_path).classes == ("bus", "train")


def test_the_seed_determines_the_split(flat):
    first, again, other = (load_images(flat, seed) for seed in (0, 0, 1))
    assert first.test.names == again.test.names != other.test.names
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_moving_the_folder_keeps_the_fingerprint(flat, tmp_path):
    before = load_images(flat).fingerprint
    assert load_images(flat.rename(tmp_path / "elsewhere")).fingerprint == before


@pytest.mark.parametrize("change", ["content", "name", "class"])
def test_every_change_alters_the_fingerprint(with_splits, picture, change):
    before = load_images(with_splits).fingerprint
    path = with_splits / "test/dog/001.png"
    if change == "content":
        picture(999).save(path)
    elif change == "name":
        path.rename(path.with_name("new.png"))
    else:
        path.rename(with_splits / "test/cat/new.png")
    assert load_images(with_splits).fingerprint != before


def test_hidden_files_are_ignored_and_nested_folders_are_read(flat, picture, fill, recorder):
    before = names(load_images(flat))
    for path in (".hidden/a.png", "__MACOSX/cat/a.png", "cat/._000.png", "cat/.cache/a.png"):
        (flat / path).parent.mkdir(parents=True, exist_ok=True)
        picture(77).save(flat / path)
    (flat / "cat/Thumbs.db").write_bytes(b"x")
    (flat / "cat/notes.txt").write_text("x")
    fill(flat / "dog/young/small", 2, seed=9)
    images = load_images(flat)
    assert names(images) - before == {"dog/young/small/000.png", "dog/young/small/001.png"}
    assert not recorder.warned
    assert any(".txt" in text for text in recorder.details)


def test_link_loops_are_not_followed(flat):
    (flat / "cat/again").symlink_to(flat / "cat", target_is_directory=True)
    (flat / "dog/up").symlink_to(flat / "dog/more", target_is_directory=True)
    (flat / "dog/more").mkdir()
    (flat / "dog/more/down").symlink_to(flat / "dog", target_is_directory=True)
    assert len(names(load_images(flat))) == 50


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_is_ignored(flat):
    os.mkfifo(flat / "cat/pipe.png")
    (flat / "cat/link.png").symlink_to(flat / "cat/pipe.png")
    assert len(names(load_images(flat))) == 50


def test_a_linked_class_folder_is_read(tmp_path, fill):
    fill(tmp_path / "store/cats", 5, seed=1)
    fill(tmp_path / "pets/dog", 5, seed=2)
    (tmp_path / "pets/cat").symlink_to(tmp_path / "store/cats", target_is_directory=True)
    assert load_images(tmp_path / "pets").classes == ("cat", "dog")


def expect(folder, message):
    with pytest.raises(DataError, match=message) as caught:
        load_images(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_errors_name_the_problem(tmp_path, fill, picture):
    expect(tmp_path / "none", "no such folder")
    (tmp_path / "empty").mkdir()
    expect(tmp_path / "empty", "no images in")
    picture().save(tmp_path / "empty/a.png")
    expect(tmp_path / "empty", "no class folders")
    fill(tmp_path / "one/cat", 5)
    expect(tmp_path / "one", "only one class, 'cat'")
    (tmp_path / "one/dog").mkdir()
    expect(tmp_path / "one", "class 'dog' has no images in")
    fill(tmp_path / "one/dog", 2, seed=1)
    expect(tmp_path / "one", "'dog' is too small to split: 2 distinct images, 3 are needed")
    expect(tmp_path / "one/dog/000.png", "is a file. Pass a folder")


def test_a_held_out_class_that_train_lacks_is_refused(with_splits, fill):
    fill(with_splits / "val/bird", 2, seed=9)
    expect(with_splits, "val has classes that train lacks: bird")


def test_warning_for_a_train_class_that_test_lacks(with_splits, recorder):
    shutil.rmtree(with_splits / "test/dog")
    assert load_images(with_splits).classes == ("cat", "dog")
    assert len(recorder.warned) == 1
    assert "test has no images of dog" in recorder.warned[0]


def test_an_empty_held_out_split_is_refused(with_splits):
    shutil.rmtree(with_splits / "val")
    (with_splits / "val").mkdir()
    expect(with_splits, "no images in .*val")


def test_warning_for_images_outside_class_folders(with_splits, picture, fill, recorder):
    picture(5).save(with_splits / "train/stray.png")
    fill(with_splits / "extra/cat", 1)
    assert len(load_images(with_splits).train) == 20
    assert [("stray.png" in text, "extra/" in text) for text in recorder.warned] == [
        (True, False),
        (False, True),
    ]


def test_a_few_unreadable_images_are_skipped_and_named(tmp_path, fill, recorder):
    fill(tmp_path / "a", 60, seed=1)
    fill(tmp_path / "b", 60, seed=2)
    (tmp_path / "b/007.png").write_bytes(b"text")
    images = load_images(tmp_path)
    assert [(bad.path, bad.reason) for bad in images.skipped] == [
        ("b/007.png", "not a JPEG, PNG, WebP, BMP, TIFF or GIF image")
    ]
    assert "b/007.png" not in names(images)
    assert len(names(images)) == 119
    assert "skipped 1 of 120 images" in recorder.warned[0]
    assert "b/007.png" in recorder.warned[0]


def test_many_unreadable_images_are_an_error(flat):
    (flat / "cat/003.png").write_bytes(b"")
    (flat / "cat/gone.png").symlink_to(flat / "nowhere.png")
    (flat / "cat/self.png").symlink_to(flat / "cat/self.png")
    expect(flat, r"3 of 52 images cannot be read, more than 1%: cat/003\.png .*cat/gone\.png \(no such file")


def test_a_class_without_readable_images_is_refused(tmp_path, fill):
    fill(tmp_path / "a", 150, seed=1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x.png").write_bytes(b"text")
    expect(tmp_path, "class 'b' has no readable images")


def test_leakage_warning_names_the_images(with_splits, recorder):
    shutil.copy(with_splits / "train/cat/002.png", with_splits / "test/cat/copy.png")
    load_images(with_splits)
    assert len(recorder.warned) == 1
    assert "leakage: 1 images of test are also in train: test/cat/copy.png" in recorder.warned[0]


def test_leakage_into_test_is_refused_unless_it_is_allowed(with_splits):
    shutil.copy(with_splits / "train/cat/002.png", with_splits / "test/cat/copy.png")
    with pytest.raises(DataError, match=r"1 images of test are also in train: test/cat/copy\.png.*--allow-leaks"):
        load_images(with_splits, allow_leaks=False)


def test_drawn_splits_do_not_leak(flat, recorder):
    for index in range(20):
        shutil.copy(flat / f"cat/{index:03d}.png", flat / f"cat/copy{index:03d}.png")
    images = load_images(flat)
    contents = [{s.content_sha256(i) for i in range(len(s))} for s in (images.train, images.val, images.test)]
    assert sum(map(len, contents)) == len(set.union(*contents)) == 50
    assert len(images.train) + len(images.val) + len(images.test) == 70
    assert not recorder.warned


def test_warning_for_copies_with_different_labels(flat, recorder):
    shutil.copy(flat / "cat/000.png", flat / "dog/liar.png")
    images = load_images(flat)
    assert recorder.warned[0] == "identical images with different labels: 2 (cat/000.png, dog/liar.png)"
    assert {"cat/000.png", "dog/liar.png"} <= set(images.train.names)


def gray16(folder, tops):
    for row, top in enumerate(tops):
        values = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
        values[0, 0] = row  # no copies
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(folder / f"{row}.png")


@pytest.mark.parametrize("tops", [[4095] * 6, [65535] * 6, [4095, 3000, 1500] * 2, [30_000, 65_000, 20_000] * 2])
def test_16_bit_images_of_one_depth_give_no_warning(tmp_path, recorder, tops):
    gray16(tmp_path / "a", tops)
    gray16(tmp_path / "b", [top - 9 for top in tops])
    load_images(tmp_path)
    assert not recorder.warned


@pytest.mark.parametrize(
    ("tops", "text"),
    [
        ([9000] * 6, "16-bit gray images: 12 use at most 36 of 256 levels (largest value 9000)"),
        ([1000] * 6, "16-bit gray images: 12 use at most 63 of 256 levels (largest value 1000)"),
        ([4000, 4000, 60_000] * 2, "16-bit gray images: 8 of 12 have no value above 4095 and are scaled as 12 bits"),
    ],
)
def test_16_bit_images_of_another_depth_are_a_warning(tmp_path, recorder, tops, text):
    gray16(tmp_path / "a", tops)
    gray16(tmp_path / "b", [top - 9 for top in tops])
    load_images(tmp_path)
    assert len(recorder.warned) == 1
    assert text in recorder.warned[0]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "counts"), [("eurosat", (6000, 1500, 4050))])
def test_real_images_load_with_the_expected_counts(shared, recorder, name, counts):
    images = load_images(shared(f"data/{name}"))
    assert (len(images.train), len(images.val), len(images.test)) == counts
    assert len(images.classes) == 10
    assert set(images.test.labels.tolist()) == set(range(10))
    assert images.skipped == ()
    assert images.test.image(0).size == (64, 64)
