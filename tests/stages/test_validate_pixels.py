"""Tests of the validation of ONNX files with built-in preprocessing."""

from __future__ import annotations

import numpy as np
import pytest

from tcs_edge.data import Preprocess, Split
from tcs_edge.export.pixels import export_pixels
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.stages.validate_pixels import pixels_checks

PREPROCESS = Preprocess(32)


@pytest.fixture(scope="module")
def images(model) -> Split:
    """Smooth images of 60 x 45 px, labeled by the model."""
    coarse = np.random.default_rng(0).integers(0, 256, (24, 5, 6, 3), dtype=np.uint8)
    pixels = coarse.repeat(9, axis=1).repeat(10, axis=2)
    from PIL import Image

    inputs = np.stack([PREPROCESS(Image.fromarray(image)) for image in pixels])
    labels = TorchRunner(model).run(inputs).argmax(axis=1)
    return Split(pixels, labels, tuple(f"p/{row}" for row in range(len(pixels))))


def failed(model, path, images, labels) -> list[str]:
    checks = pixels_checks(TorchRunner(model), path, images, PREPROCESS, labels, 0.01)
    return [check.name for check in checks if not check.passed]


def test_correct_preprocessing_passes(model, onnx_path, images, labels, tmp_path):
    path = export_pixels(onnx_path, tmp_path / "model.pixels.onnx", PREPROCESS)
    assert failed(model, path, images, labels) == []


@pytest.mark.parametrize(
    "wrong",
    [
        Preprocess(32, mean=PREPROCESS.mean[::-1], std=PREPROCESS.std[::-1]),
        Preprocess(32, crop_pct=0.8),
        Preprocess(32, resize="stretch"),
    ],
)
def test_other_preprocessing_fails(model, onnx_path, images, labels, tmp_path, wrong):
    path = export_pixels(onnx_path, tmp_path / "model.pixels.onnx", wrong)
    assert any("largest difference" in name for name in failed(model, path, images, labels))


def test_class_names_in_another_order_fail(model, onnx_path, images, labels, tmp_path):
    path = export_pixels(onnx_path, tmp_path / "model.pixels.onnx", PREPROCESS)
    assert failed(model, path, images, labels[::-1]) == ["onnxruntime-pixels: class names"]


def test_missing_file_is_a_failed_check(model, images, labels, tmp_path):
    assert failed(model, tmp_path / "no.onnx", images, labels) == ["no.onnx: runs on every image"]
