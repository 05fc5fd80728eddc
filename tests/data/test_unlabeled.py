"""Unlabeled images: found at any depth of a folder, without copies of val or test images."""

from __future__ import annotations

import shutil

import pytest

from tcs_edge.data import load_images
from tcs_edge.data.images import UNLABELED
from tcs_edge.data.unlabeled import with_unlabeled
from tcs_edge.errors import DataError


@pytest.fixture
def labeled(tmp_path, fill):
    for seed, part in enumerate(("train", "val", "test")):
        fill(tmp_path / "pets" / part / "cat", 4, seed=2 * seed)
        fill(tmp_path / "pets" / part / "dog", 4, seed=2 * seed + 1)
    return tmp_path / "pets"


@pytest.fixture
def more(tmp_path, fill):
    fill(tmp_path / "more/2024/may", 3, seed=20)
    fill(tmp_path / "more", 2, seed=21)
    return tmp_path / "more"


def test_unlabeled_images_follow_the_labeled_training_images(labeled, more):
    before = load_images(labeled)
    after = with_unlabeled(before, more)
    assert after.counts() == {"train": 8, "val": 8, "test": 8, "unlabeled": 5}
    assert after.train.names[:8] == before.train.names
    assert set(after.train.names[8:]) == {
        *(f"unlabeled/00{index}.png" for index in range(2)),
        *(f"unlabeled/2024/may/00{index}.png" for index in range(3)),
    }
    assert after.train.labels.tolist() == before.train.labels.tolist() + [UNLABELED] * 5
    assert after.train.labeled.tolist() == list(range(8))


def test_unlabeled_images_change_only_their_own_fingerprint(labeled, more, fill):
    before = load_images(labeled)
    after = with_unlabeled(before, more)
    assert after.fingerprint == before.fingerprint
    assert before.unlabeled_fingerprint == "" != after.unlabeled_fingerprint
    assert with_unlabeled(before, more).unlabeled_fingerprint == after.unlabeled_fingerprint
    fill(more, 1, seed=99)  # another image under the same name
    assert with_unlabeled(before, more).unlabeled_fingerprint != after.unlabeled_fingerprint


def test_copies_of_val_and_test_images_are_left_out_and_named(labeled, more, recorder):
    shutil.copy(labeled / "test/cat/001.png", more / "sneaky.png")
    after = with_unlabeled(load_images(labeled), more)
    assert after.counts()["unlabeled"] == 5
    assert recorder.warned == ["unlabeled images left out: 1 are also in val or test (unlabeled/sneaky.png)"]


def test_copies_count_once(labeled, more, recorder):
    shutil.copy(labeled / "train/cat/001.png", more / "known.png")
    shutil.copy(more / "000.png", more / "twice.png")
    assert with_unlabeled(load_images(labeled), more).counts()["unlabeled"] == 5
    assert any(text.startswith("unlabeled images left out: 2 are copies") for text in recorder.said)


def test_a_folder_with_labeled_images_gives_only_the_new_ones(labeled, more):
    shutil.copytree(more, labeled.parent / "all/rest")
    shutil.copytree(labeled, labeled.parent / "all/pets")
    assert with_unlabeled(load_images(labeled), labeled.parent / "all").counts()["unlabeled"] == 5


def test_a_folder_without_new_images_is_an_error(labeled):
    with pytest.raises(DataError, match=r"already among the labeled images, or .*Leave --unlabeled out"):
        with_unlabeled(load_images(labeled), labeled / "train")


def test_a_missing_or_empty_folder_is_an_error(labeled, tmp_path):
    with pytest.raises(DataError, match=r"no such folder: .*Pass --unlabeled DIR"):
        with_unlabeled(load_images(labeled), tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in"):
        with_unlabeled(load_images(labeled), tmp_path / "empty")


def test_too_many_unreadable_images_are_refused(labeled, more):
    (more / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="1 of 6 images cannot be read"):
        with_unlabeled(load_images(labeled), more)
