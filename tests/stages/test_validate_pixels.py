"""The proof of files that take pictures: it passes what is right and catches what is not."""

from __future__ import annotations

import numpy as np
import pytest

from tcs_edge.data import Preprocess, Split
from tcs_edge.export.pixels import export_pixels
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.stages.validate_pixels import picture_checks

PREPROCESS = Preprocess(32)


@pytest.fixture(scope="module")
def photographs(model) -> Split:
    """Smooth pictures of 60 x 45, labeled as the model sees them."""
    coarse = np.random.default_rng(0).integers(0, 256, (24, 5, 6, 3), dtype=np.uint8)
    pixels = coarse.repeat(9, axis=1).repeat(10, axis=2)
    from PIL import Image

    seen = np.stack([PREPROCESS(Image.fromarray(picture)) for picture in pixels])
    labels = TorchRunner(model).run(seen).argmax(axis=1)
    return Split(pixels, labels, tuple(f"p/{row}" for row in range(len(pixels))))


def failed(model, path, photographs, labels) -> list[str]:
    checks = picture_checks(TorchRunner(model), path, photographs, PREPROCESS, labels, 0.01)
    return [check.name for check in checks if not check.passed]


def test_the_right_preprocessing_passes(model, onnx_path, photographs, labels, tmp_path):
    path = export_pixels(onnx_path, tmp_path / "model.pixels.onnx", PREPROCESS)
    assert failed(model, path, photographs, labels) == []


@pytest.mark.parametrize(
    "wrong",
    [
        Preprocess(32, mean=PREPROCESS.mean[::-1], std=PREPROCESS.std[::-1]),
        Preprocess(32, crop_pct=0.8),
        Preprocess(32, resize="stretch"),
    ],
)
def test_another_preprocessing_is_caught(model, onnx_path, photographs, labels, tmp_path, wrong):
    path = export_pixels(onnx_path, tmp_path / "model.pixels.onnx", wrong)
    assert any("largest difference" in name for name in failed(model, path, photographs, labels))


def test_class_names_in_another_order_are_caught(model, onnx_path, photographs, labels, tmp_path):
    path = export_pixels(onnx_path, tmp_path / "model.pixels.onnx", PREPROCESS)
    assert failed(model, path, photographs, labels[::-1]) == ["onnxruntime-pixels: class names"]


def test_a_missing_file_is_a_failed_check(model, photographs, labels, tmp_path):
    assert failed(model, tmp_path / "no.onnx", photographs, labels) == ["no.onnx: runs on every picture"]
