"""Split folders under their common names, and splits that must not be taken for classes."""

from __future__ import annotations

import pytest

from tcs_edge.data import load_images
from tcs_edge.data.detect import detect_image_folders
from tcs_edge.data.split_names import loose_role, split_role
from tcs_edge.errors import DataError


@pytest.fixture
def make(tmp_path, fill):
    """make("Training", "Testing"): folder with these splits of two classes, 10, 4, 4, ... images each."""

    def write(*parts: str, classes=("cat", "dog")):
        for row, part in enumerate(parts):
            for column, name in enumerate(classes):
                fill(tmp_path / "pets" / part / name, 4 if row else 10, seed=10 * row + column)
        return tmp_path / "pets"

    return write


def refused(folder, *texts):
    with pytest.raises(DataError) as caught:
        load_images(folder)
    for text in texts:
        assert text in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("train_set", "test_set"),
        ("Training Set", "Test Set"),
        ("trainingset", "testset"),
        ("seg_train", "seg_test"),
        ("train-images", "test-images"),
        ("train2017", "test2017"),
        ("tr", "te"),
        ("train", "eval"),
        ("train", "dev"),
        ("trainval", "holdout"),
        ("01_train", "02_test"),
        ("images_train", "images_test"),
    ],
)
def test_common_names_are_understood(make, recorder, train, test):
    images = load_images(make(train, test))
    assert images.classes == ("cat", "dog")
    assert images.counts() == {"train": 18, "val": 2, "test": 8}
    assert all(name.startswith(f"{test}/") for name in images.test.names)
    if {train, test} != {"TRAIN", "TEST"}:
        assert f"splits: train = {train}/, " in recorder.said[0]
    assert not recorder.warned


@pytest.mark.parametrize("val", ["valid", "Validation", "dev", "val_set", "validation_images", "VAL2017", "vl"])
def test_three_splits_are_understood(make, val):
    images = load_images(make("train", "test", val))
    assert images.counts() == {"train": 20, "val": 8, "test": 8}
    assert all(name.startswith(f"{val}/") for name in images.val.names)


def test_a_split_repeated_inside_itself_is_followed(make):
    images = load_images(make("seg_train/seg_train", "seg_test/seg_test"))
    assert (images.classes, len(images.test)) == (("cat", "dog"), 8)
    assert images.test.names[0].startswith("seg_test/seg_test/cat/")


def test_names_are_taken_apart_into_words():
    assert split_role("train station") is None
    assert split_role("contest") is None
    assert split_role("protest_images") is None
    assert split_role("images") is None
    assert split_role("train_test") is None
    assert (loose_role("pets_train"), loose_role("trainA"), loose_role("contest")) == ("train", "train", None)
    assert split_role("invalid") is None
    assert (split_role("te"), split_role("te", short=True)) == (None, "test")


@pytest.mark.parametrize(
    ("parts", "texts"),
    [
        (("train", "test", "eval"), ("train = train/, val = eval/, test = test/", "Rename eval/ to val/")),
        (("train", "test", "eval"), ("--exclude eval",)),
        (("train", "val", "Evaluation"), ("test = Evaluation/", "Rename Evaluation/ to test/")),
        (("train", "val", "test", "eval"), ("Remove eval/",)),
        (("dev", "test"), ("no train/", "val = dev/, test = test/", "rename one of them")),
        (("pets_train", "pets_test"), ("train = pets_train/", "test = pets_test/", "Rename one to train/")),
        (("trainA", "trainB", "testA", "testB"), ("train = trainA/", "test = testB/")),
        (("Testing", "Validation"), ("Testing/", "Validation/", "no train/")),
        (("training",), ("only training/", "Pass --data")),
        (("train", "Training", "test"), ("both", "Training/", "train/", "Keep one")),
        (("train", "dev", "val"), ("both dev/ and val/",)),
        (("fold1", "fold2", "fold3"), ("numbered parts", "test = fold3/", "Rename fold3/ to test/")),
        (("split_1", "split_2"), ("test = split_2/",)),
        (("train", "others"), ("train = train/, test = others/", "Rename others/ to test/")),
        (("Testing", "others"), ("looks like the split test", "train = others/", "Rename others/ to train/")),
        (("train", "query", "gallery"), ("looks like the split train", "Pass --data")),
    ],
)  # fmt: skip
def test_open_splits_are_refused(make, parts, texts):
    refused(make(*parts), *texts)


def test_a_class_named_unlabeled_is_a_warning(make, fill, recorder):
    folder = make("labeled", "unlabeled")
    assert load_images(folder).classes == ("labeled", "unlabeled")
    assert f"pass --exclude unlabeled --unlabeled {folder / 'unlabeled'}" in recorder.warned[0]


def test_train_beside_unlabeled_images_is_refused(make, fill):
    folder = make("train")
    fill(folder / "unlabeled", 5, seed=9)
    refused(folder, "looks like the split train, beside unlabeled", f"Pass --data {folder / 'train'}")


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Validation"), ("tr", "ts")])
def test_splits_inside_the_classes_are_refused(make, train, test):
    folder = make("cat", "dog", classes=(train, test))
    refused(folder, "holds splits inside the class", f"train = cat/{train}/", "train/cat/")


def test_one_class_with_splits_inside_is_refused(make, fill):
    folder = make("cat", classes=("train", "test"))
    fill(folder / "dog", 10, seed=9)
    refused(folder, "holds splits inside the class")


def test_a_split_beside_the_classes_is_refused(tmp_path, fill):
    for row, name in enumerate(("cat", "dog", "holdout2/cat", "holdout2/dog")):
        fill(tmp_path / name, 5, seed=row)
    refused(tmp_path, "holds folders named like the other classes: cat, dog", "--exclude holdout2")
    assert load_images(tmp_path, exclude=("holdout2",)).classes == ("cat", "dog")


def test_held_out_splits_beside_the_classes_are_refused(tmp_path, fill):
    for row, name in enumerate(("cat", "dog", "valid/cat", "valid/dog", "test/cat", "test/dog")):
        fill(tmp_path / name, 5, seed=row)
    refused(tmp_path, "Move these classes into train/, or pass --exclude test")


@pytest.mark.parametrize("inner", [("train", "test"), ("cat", "dog")])
def test_a_folder_around_the_images_is_pointed_out(tmp_path, fill, inner):
    for row, name in enumerate(inner):
        fill(tmp_path / "archive" / name, 5, seed=row)
    refused(tmp_path, "only one class, 'archive'", f"pass --data {tmp_path / 'archive'}")


def test_the_same_subfolders_everywhere_are_a_warning(make, recorder):
    images = load_images(make("ok", "defect", classes=("camera1", "camera2")))
    assert images.classes == ("defect", "ok")
    (line,) = recorder.warned
    assert "all 2 class folders hold the same subfolders (camera1, camera2)" in line
    assert "rename them to train/, val/ and test/" in line


@pytest.mark.parametrize("names", [("valid", "invalid"), ("train", "bus"), ("test", "control"), ("tr", "te")])
def test_split_names_can_be_class_names(tmp_path, fill, recorder, names):
    for row, name in enumerate(names):
        fill(tmp_path / name, 5, seed=row)
    assert load_images(tmp_path).classes == tuple(sorted(names))
    assert not recorder.warned


def test_a_folder_beside_the_splits_with_the_same_classes_is_pointed_out(make, recorder):
    assert len(load_images(make("train", "test", "extra")).train) == 18
    (line,) = recorder.warned
    assert "ignored 1 folders beside the splits: extra/" in line
    assert "Rename to val/ or test/" in line


def test_images_without_class_folders_in_named_splits_are_refused(tmp_path, fill):
    fill(tmp_path / "Training", 5, seed=1)
    fill(tmp_path / "Testing", 5, seed=2)
    refused(tmp_path, "has images but no class folders", "Or pass --exclude T")


def test_detection_knows_the_names(make):
    (found, *_) = detect_image_folders(make("Training", "Testing").parent)
    assert (found.layout, found.classes) == ("splits", 2)
