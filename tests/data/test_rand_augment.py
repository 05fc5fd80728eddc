"""Tests that RandAugment draws only from the generator of the caller."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tcs_edge.data import Preprocess
from tcs_edge.data.augment import Augment
from tcs_edge.data.rand_augment import RandAugment

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))


def pixels(magnitude, seed, picture=PICTURE):
    return np.asarray(RandAugment(magnitude)(picture, np.random.default_rng(seed)))


def test_a_distortion_does_not_depend_on_torchs_generator():
    torch.manual_seed(0)
    first = pixels(9, seed=3)
    torch.rand(100)
    assert np.array_equal(pixels(9, seed=3), first)
    assert len({pixels(9, seed).tobytes() for seed in range(20)}) > 15


def test_torchs_global_generator_is_restored():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    pixels(9, seed=1)
    assert torch.equal(torch.rand(3), wanted)


def test_magnitude_zero_changes_neither_image_nor_generator():
    rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
    assert RandAugment()(PICTURE, rng) is PICTURE
    assert rng.random() == untouched.random()


def test_a_larger_magnitude_changes_images_more():
    gray = Image.fromarray(np.tile(np.linspace(40, 210, 40).astype(np.uint8)[:, None, None], (1, 40, 3)))

    def moved(magnitude):
        return np.mean([np.abs(pixels(magnitude, s, gray).astype(int) - np.asarray(gray)).mean() for s in range(60)])

    assert 0 < moved(2) < moved(25)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    magnitude=st.integers(1, 30),
    seed=st.integers(0, 2**31),
)
def test_any_image_keeps_its_size(width, height, magnitude, seed):
    out = RandAugment(magnitude)(Image.new("RGB", (width, height), (9, 99, 200)), np.random.default_rng(seed))
    assert (out.size, out.mode) == ((width, height), "RGB")


@pytest.mark.parametrize("kind", ["none", "crop", "crop-flip"])
def test_distortion_is_applied_after_the_crop(kind):
    preprocess = Preprocess(16)
    plain, distorted = Augment(kind, preprocess), Augment(kind, preprocess, distortion=RandAugment(20))
    views = [[augment(PICTURE, np.random.default_rng(s)) for s in range(10)] for augment in (plain, distorted)]
    assert any(not torch.equal(a, b) for a, b in zip(*views, strict=True))
    assert all(view.shape == (3, 16, 16) for view in views[1])
