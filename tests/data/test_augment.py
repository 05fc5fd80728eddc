from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tcs_edge.data import Preprocess
from tcs_edge.data.augment import Augment, random_box
from tcs_edge.errors import UsageError

PREP = Preprocess(16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def views(kind, image, count=60, **options):
    augment = Augment(kind, PREP, **options)
    return torch.stack([augment(image, np.random.default_rng(seed)) for seed in range(count)])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["none", "crop", "crop-flip"]),
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    seed=st.integers(0, 2**31),
)
def test_any_image_gives_a_normalized_tensor(kind, width, height, seed):
    prep = Preprocess(16, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    view = Augment(kind, prep)(Image.new("RGB", (width, height), (255, 255, 255)), np.random.default_rng(seed))
    assert (view.shape, view.dtype) == ((3, 16, 16), torch.float32)
    assert torch.allclose(view, torch.tensor([1.0, 3.0, 1.0])[:, None, None].expand(3, 16, 16))


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    min_scale=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**31),
)
def test_a_random_box_lies_inside_and_keeps_its_aspect(width, height, min_scale, seed):
    left, top, right, bottom = random_box((width, height), min_scale, 4 / 3, np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert 0.74 < (right - left) / (bottom - top) < 1.34
    if 4 / 3 * max(width, height) < 1.7 * min(width, height):  # nearly square: the area mostly fits
        assert (right - left) * (bottom - top) > 0.4 * min_scale * width * height


def test_box_areas_reach_down_to_min_scale():
    boxes = [random_box((100, 100), 0.5, 1.0, np.random.default_rng(seed)) for seed in range(300)]
    areas = [(right - left) * (bottom - top) / 1e4 for left, top, right, bottom in boxes]
    assert 0.5 <= min(areas) < 0.52
    assert 0.98 < max(areas) <= 1.0
    assert np.mean(areas) == pytest.approx(0.75, abs=0.03)


def test_kind_none_is_the_evaluation_view(picture):
    assert torch.equal(views("none", picture(), count=1)[0], torch.from_numpy(PREP(picture())))


def test_views_differ_and_are_reproducible(picture):
    for kind in ("crop", "crop-flip"):
        first = views(kind, picture(1, 40, 30), count=8)
        assert torch.equal(first, views(kind, picture(1, 40, 30), count=8))
        assert all(not torch.equal(first[0], other) for other in first[1:])


def test_only_crop_flip_mirrors():
    """The image grows brighter to the right, so a mirrored view grows darker."""
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (64, 64, 3))
    image = Image.fromarray(np.ascontiguousarray(ramp))
    rising = {
        kind: np.mean([bool(v[0, 8, 12] > v[0, 8, 4]) for v in views(kind, image)]) for kind in ("crop", "crop-flip")
    }
    assert rising["crop"] == 1.0
    assert 0.3 < rising["crop-flip"] < 0.7


def test_min_scale_limits_the_crop():
    """A dot in the corner, which only large crops contain, shows the size of the crops."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[0:2, 0:2] = 255
    image = Image.fromarray(pixels)
    whole = views("crop-flip", image, min_scale=1.0)[:, 0].amax(dim=(1, 2))
    small = views("crop-flip", image, min_scale=0.1)[:, 0].amax(dim=(1, 2))
    assert (whole > 0.1).float().mean() > 0.4  # aspect jitter alone can crop the dot
    assert (small > 0.1).float().mean() < 0.35


def test_crop_fills_corners_with_the_border_color():
    view = views("crop", Image.new("RGB", (32, 32), (40, 80, 120)))
    expected = torch.tensor([40, 80, 120])[:, None, None] / 255
    assert torch.allclose(view, expected.expand_as(view), atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"kind": "mixup"}, {"kind": "crop", "min_scale": 0}, {"kind": "crop", "min_scale": 1.5}]
)
def test_invalid_options_are_refused(options):
    with pytest.raises(UsageError):
        Augment(preprocess=PREP, **options)
