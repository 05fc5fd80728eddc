"""Compare four resize paths with Pillow, in pixels and in logits.

`pytest -s tests/export/test_pixel_paths.py` prints the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from tcs_edge.data import Preprocess
from tcs_edge.data.decode import open_rgb
from tcs_edge.export.onnx import export_onnx
from tcs_edge.export.pixels import export_pixels
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.pixels import PixelsRunner
from tcs_edge.validation.checks import PIXELS

IMAGES = 24


def numpy_bilinear(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize with Pillow's bilinear filter in numpy: a triangle of the shrink factor, rounded after each axis."""
    for axis, side in ((1, size[0]), (0, size[1])):
        pixels = np.moveaxis(_resampled(np.moveaxis(pixels, axis, 0), side), 0, axis)
    return pixels.astype(np.uint8)


def _resampled(rows: np.ndarray, side: int) -> np.ndarray:
    scale = len(rows) / side
    reach = max(scale, 1.0)
    centers = (np.arange(side) + 0.5) * scale
    weights = np.maximum(0.0, 1 - np.abs(np.arange(len(rows)) + 0.5 - centers[:, None]) / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.floor(np.tensordot(weights, rows.astype(np.float64), 1) + 0.5)


def resized_size(preprocess: Preprocess, size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    side = preprocess.resized_side
    return (side, side * height // width) if width <= height else (side * width // height, side)


def cropped(pixels: np.ndarray, side: int) -> np.ndarray:
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


@pytest.fixture(scope="module")
def photographs(shared_folder: Path) -> list[Image.Image]:
    """Photographs larger than the model's input, so that they are shrunk."""
    paths = sorted((shared_folder / "data" / "clothing" / "test").glob("*/*.jpg"))
    return [open_rgb(path) for path in paths[:: len(paths) // IMAGES][:IMAGES]]


@pytest.fixture(scope="module")
def classifier(shared_folder: Path):
    """Network trained on ImageNet."""
    import timm
    from safetensors.torch import load_file

    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(load_file(shared_folder / "weights" / "tf_efficientnet_lite0_in1k.safetensors"))
    return model.eval()


def test_the_filter_in_numpy_equals_pillow_within_one_level(photographs):
    preprocess = Preprocess(96)
    for photograph in photographs[:6]:
        size = resized_size(preprocess, photograph.size)
        expected = np.asarray(photograph.resize(size, Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(numpy_bilinear(np.asarray(photograph), size).astype(int) - expected).max() <= 1


@dataclass
class Way:
    """Differences of one path from Pillow over all photographs: gray levels, logits and predictions."""

    levels: int = 0
    logits: float = 0.0
    same: int = 0

    def add(self, own: np.ndarray, expected: np.ndarray, answer: np.ndarray, reference: np.ndarray) -> None:
        self.levels = max(self.levels, int(np.abs(own.astype(int) - expected).max()))
        self.logits = max(self.logits, float(np.abs(answer - reference).max() / np.abs(reference).max()))
        self.same += int(answer.argmax() == reference.argmax())


@pytest.mark.slow
def test_the_graph_is_closer_to_pillow_than_opencv(photographs, classifier, tmp_path, capsys):
    import cv2

    side = 96
    preprocess = Preprocess(side, mean=(0.5,) * 3, std=(0.5,) * 3)
    labels = [f"c{row}" for row in range(1000)]
    source = export_onnx(classifier, tmp_path / "m.onnx", side, labels=labels, preprocess=preprocess.to_json())
    seen = PixelsRunner(export_pixels(_seen_pixels(side, tmp_path), tmp_path / "seen.onnx", preprocess))
    pixels = PixelsRunner(export_pixels(source, tmp_path / "m.pixels.onnx", preprocess))
    ways = {
        "numpy": lambda image, size: numpy_bilinear(image, size),
        "OpenCV, INTER_LINEAR": lambda image, size: cv2.resize(image, size, interpolation=cv2.INTER_LINEAR),
        "OpenCV, INTER_AREA": lambda image, size: cv2.resize(image, size, interpolation=cv2.INTER_AREA),
    }
    found = {name: Way() for name in [*ways, "in the graph"]}
    with OrtRunner(source) as model:
        for photograph in photographs:
            image, expected = np.asarray(photograph), np.asarray(preprocess.crop(photograph)).astype(int)
            reference = model.run(preprocess(photograph)[None])[0]
            for name, resize in ways.items():
                own = cropped(resize(image, resized_size(preprocess, photograph.size)), side)
                found[name].add(own, expected, model.run(preprocess.normalize(own)[None])[0], reference)
            values = seen.run(image).reshape(3, side, side).transpose(1, 2, 0)
            levels = np.rint((values * 0.5 + 0.5) * 255)
            found["in the graph"].add(levels, expected, pixels.run(image)[0], reference)
    with capsys.disabled():
        print(f"\n{'path':22} {'largest difference':>18} {'of a logit':>10} {'same top-1':>12}")  # noqa: T201
        for name, way in found.items():
            print(f"{name:22} {way.levels:>14}/255 {way.logits:>10.3f} {way.same:>6} of {len(photographs)}")  # noqa: T201
    assert found["numpy"].levels <= 1
    assert found["in the graph"].levels <= 1
    assert found["in the graph"].logits <= PIXELS.max_rel_diff
    assert found["OpenCV, INTER_LINEAR"].levels > 20, "OpenCV antialiases now. Update docs/how-to/precision.md"
    assert found["OpenCV, INTER_LINEAR"].logits > 3 * found["in the graph"].logits


def _seen_pixels(side: int, folder: Path) -> Path:
    """Write a "model" whose logits are its preprocessed input; return its path."""
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, side, side])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, math.prod((3, side, side))])
    graph = helper.make_graph([helper.make_node("Flatten", ["image"], ["logits"])], "g", [image], [logits])
    path = folder / "flat.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
