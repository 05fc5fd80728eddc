from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tcs_edge.data import load_images


@pytest.fixture(scope="module")
def images():
    return load_images(None)


def test_sizes_and_classes(images):
    assert (len(images.train), len(images.val), len(images.test)) == (1197, 240, 360)
    assert images.classes == tuple("0123456789")
    assert (images.name, images.builtin, images.skipped) == ("digits", True, ())


def test_the_test_images_are_the_documented_ones(images):
    rest, test = train_test_split(np.arange(1797), test_size=360, stratify=load_digits().target, random_state=0)
    assert images.test.names == tuple(f"digits/{row:04d}" for row in test)
    assert images.test.labels.tolist() == load_digits().target[test].tolist()
    assert sorted((*images.train.names, *images.val.names)) == sorted(f"digits/{row:04d}" for row in rest)


def test_pixels_use_the_full_range(images):
    original = load_digits().images[int(images.train.names[0][-4:])]
    assert images.train.sources.dtype == np.uint8
    assert np.abs(images.train.sources[0] - original * 255 / 16).max() <= 0.5
    assert (images.train.sources.min(), images.train.sources.max()) == (0, 255)


def test_the_seed_does_not_change_the_digits(images):
    assert load_images(None, seed=5).fingerprint == images.fingerprint
