"""Few-shot subsets: the same number of images per class, determined by the seed."""

from dataclasses import replace

import numpy as np
import pytest

from tcs_edge.data.images import UNLABELED, ImageSet, Split
from tcs_edge.data.shots import few_shot
from tcs_edge.errors import DataError


@pytest.fixture
def images():
    """Four images of class a and three of class b, with different pixels."""
    labels = np.array([0, 1, 0, 1, 0, 1, 0])
    split = Split(np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2), labels, tuple(f"{i}" for i in range(7)))
    return ImageSet("some", ("a", "b"), split, split, split, "f" * 64)


def test_each_class_keeps_the_same_number_and_held_out_images_stay(images):
    small = few_shot(images, 2, seed=0)
    assert np.bincount(small.train.labels).tolist() == [2, 2]
    assert small.val is images.val
    assert small.test is images.test
    for row, name in enumerate(small.train.names):
        assert small.train.labels[row] == images.train.labels[int(name)]
        assert small.train.image(row).tobytes() == images.train.image(int(name)).tobytes()


def test_unlabeled_images_are_kept(images):
    labels = np.where(np.arange(7) < 2, UNLABELED, images.train.labels)
    split = Split(images.train.sources, labels, images.train.names)
    small = few_shot(replace(images, train=split), 1, seed=0)
    assert sorted(small.train.labels.tolist()) == [UNLABELED, UNLABELED, 0, 1]
    assert small.train.names[-2:] == ("0", "1")


def test_keep_rest_keeps_the_other_images_unlabeled(images):
    drawn = few_shot(images, 2, seed=0).train.names
    kept = few_shot(images, 2, seed=0, keep_rest=True).train
    assert kept.names == images.train.names
    for row, name in enumerate(kept.names):
        assert kept.labels[row] == (images.train.labels[row] if name in drawn else UNLABELED)


def test_the_seed_determines_the_draw(images):
    assert few_shot(images, 2, seed=0).train.names == few_shot(images, 2, seed=0).train.names
    assert len({few_shot(images, 2, seed).train.names for seed in range(20)}) > 3


def test_error_names_the_class_with_too_few_images(images):
    assert len(few_shot(images, 3, seed=0).train) == 6
    with pytest.raises(DataError, match=r"class 'b' has 3 training images, --shots asks for 4.*--shots 3"):
        few_shot(images, 4, seed=0)
