from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from tcs_edge.data import Preprocess
from tcs_edge.errors import SpecError

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def triangle_weights(length: int, target: int) -> np.ndarray:
    """Antialiased linear resampling written out: (target, length), rows sum to 1."""
    scale = length / target
    support = max(scale, 1.0)
    centers = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(length)[None, :] + 0.5 - centers[:, None]) / support
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(61, 40), (40, 61), (33, 33), (20, 90), (7, 5)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_preprocess_equals_the_formula_in_numpy(size, crop_pct):
    prep = Preprocess(24, crop_pct=crop_pct, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    image = noise(*size)
    side, (width, height) = math.floor(24 / crop_pct), size
    new_w, new_h = (side, side * height // width) if width <= height else (side * width // height, side)
    picture = np.asarray(image).astype(np.float64)
    resized = np.einsum("yh,hwc,xw->yxc", triangle_weights(height, new_h), picture, triangle_weights(width, new_w))
    top, left = (new_h - 24) // 2, (new_w - 24) // 2
    window = resized[top : top + 24, left : left + 24] / 255
    expected = ((window - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(2, 0, 1)
    levels = np.abs(prep(image) - expected) * np.array([0.5, 0.6, 0.7])[:, None, None] * 255
    assert levels.max() <= 1.01  # two roundings to 8 bit, one per pass
    assert levels.mean() < 0.4


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("size", "crop_pct"), [((64, 64), 0.875), ((60, 40), 1.0), ((520, 390), 0.93), ((30, 50), 1.0)]
)
def test_preprocess_equals_torchvision(size, crop_pct, interpolation):
    prep = Preprocess(28, crop_pct=crop_pct, interpolation=interpolation)
    mode = InterpolationMode[interpolation.upper()]
    image = noise(*size)
    resized = v2.Resize(math.floor(28 / crop_pct), interpolation=mode, antialias=True)(image)
    assert all((side - 28) % 2 == 0 for side in resized.size), "odd margins round differently in torchvision"
    cropped = v2.CenterCrop(28)(resized)
    assert np.array_equal(np.asarray(prep.crop(image)), np.asarray(cropped))
    normalize = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(prep.mean, prep.std)])
    np.testing.assert_allclose(prep(image), normalize(cropped).numpy(), rtol=0, atol=1e-6)


def test_odd_margins_are_rounded_down_at_the_left():
    image = noise(7, 4)
    assert np.array_equal(np.asarray(Preprocess(4).crop(image)), np.asarray(image)[:, 1:5])


def test_stretch_ignores_the_aspect_ratio():
    image = noise(50, 20)
    expected = image.resize((20, 20), Image.Resampling.BILINEAR).crop((2, 2, 18, 18))
    prep = Preprocess(16, crop_pct=0.8, resize="stretch")
    assert np.array_equal(np.asarray(prep.crop(image)), np.asarray(expected))


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    img_size=st.integers(1, 40),
    crop_pct=st.floats(0.2, 1.0),
    resize=st.sampled_from(["shorter", "stretch"]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_any_size_gives_the_documented_tensor(width, height, img_size, crop_pct, resize, interpolation):
    prep = Preprocess(img_size, crop_pct, resize, interpolation, **HALF)
    tensor = prep(Image.new("RGB", (width, height), (255, 0, 255)))
    assert tensor.shape == (3, img_size, img_size)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert (tensor == np.array([1, -1, 1], np.float32)[:, None, None]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 60_000), (60_000, 1), (3, 5_000)])
def test_extreme_aspect_ratios_are_preprocessed(size):
    assert Preprocess(224)(Image.new("RGB", size, (255, 255, 255))).shape == (3, 224, 224)


@pytest.mark.parametrize("size", [(20, 400), (400, 20), (21, 500)])
def test_elongated_images_give_the_same_crop(size):
    """Above 16:1 only the crop is computed, and it must equal the crop of the resized image."""
    image, prep = noise(*size), Preprocess(16)
    width, height = prep._resized_size(size)
    left, top = (width - 16) // 2, (height - 16) // 2
    whole = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + 16, top + 16))
    difference = np.abs(np.asarray(prep.crop(image)).astype(int) - np.asarray(whole).astype(int))
    assert difference.max() <= 1


def test_other_modes_than_rgb_are_refused():
    with pytest.raises(ValueError, match="open_rgb"):
        Preprocess(8)(Image.new("L", (8, 8)))


@settings(max_examples=50)
@given(
    prep=st.builds(
        Preprocess,
        img_size=st.integers(1, 4096),
        crop_pct=st.floats(0.01, 1.0),
        resize=st.sampled_from(["shorter", "stretch"]),
        interpolation=st.sampled_from(["bilinear", "bicubic"]),
        mean=st.tuples(*[st.floats(-1, 1)] * 3),
        std=st.tuples(*[st.floats(0.01, 2)] * 3),
    )
)
def test_json_round_trip_keeps_all_values(prep):
    assert Preprocess.from_json(json.loads(json.dumps(prep.to_json()))) == prep


def test_description_contains_the_numbers():
    text = " ".join(Preprocess(224, crop_pct=0.875, interpolation="bicubic").to_json()["description"])
    assert all(part in text for part in ("256", "224 x 224", "bicubic", "0.485", "R, G, B", "floor", "255"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img_size": 0}, "img_size must be a whole number in 1..4096, got 0"),
        ({"img_size": True}, "img_size"),
        ({"img_size": 32.0}, "img_size"),
        ({"crop_pct": 0}, "crop_pct must be above 0"),
        ({"crop_pct": 1.01}, "crop_pct"),
        ({"crop_pct": "1"}, "crop_pct"),
        ({"crop_pct": float("nan")}, "crop_pct"),
        ({"resize": "longer"}, "resize must be shorter or stretch, got 'longer'"),
        ({"interpolation": []}, "interpolation"),
        ({"mean": [0.5, 0.5]}, "mean must be three"),
        ({"mean": "abc"}, "mean must be three"),
        ({"mean": [0, 0, float("inf")]}, "mean must be three"),
        ({"std": [1, 0, 1]}, "std must be above 0"),
        ({"schema_version": 2}, "schema_version is 2, this version reads 1"),
        ({"color": "bgr"}, "unknown 'color'"),
    ],
)
def test_from_json_refuses_invalid_values(change, message):
    with pytest.raises(SpecError, match=message) as caught:
        Preprocess.from_json(Preprocess(32).to_json() | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["img_size", "crop_pct", "resize", "interpolation", "mean", "std"])
def test_from_json_requires_every_key(key):
    document = Preprocess(32).to_json()
    del document[key]
    with pytest.raises(SpecError, match=f"missing {key}"):
        Preprocess.from_json(document)


@pytest.mark.parametrize("document", [[], None, "x", {}])
def test_from_json_requires_an_object(document):
    with pytest.raises(SpecError):
        Preprocess.from_json(document)


def test_preprocessing_does_not_import_torch():
    code = "import sys, tcs_edge.data; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
