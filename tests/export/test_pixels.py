"""Preprocessing inside the graph, against Pillow."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from PIL import Image

from tcs_edge.data import Preprocess
from tcs_edge.errors import DataError, UsageError
from tcs_edge.export.pixels import PICTURE, export_pixels
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.pixels import PixelsRunner

SIDE = 24
GRAY_LEVEL = 1 / 255 / 0.5  # after division by a standard deviation of 0.5


@pytest.fixture(scope="module")
def transparent(tmp_path_factory):
    """transparent(side): write a "model" whose logits are its preprocessed input, (1, 3 side side); return its path."""
    folder = tmp_path_factory.mktemp("transparent")

    def make(side: int = SIDE):
        path = folder / f"{side}.onnx"
        image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, side, side])
        logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 3 * side * side])
        graph = helper.make_graph([helper.make_node("Flatten", ["image"], ["logits"])], "g", [image], [logits])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
        return path

    return make


STEPS = {
    "plain": {},
    "bicubic with a crop": {"interpolation": "bicubic", "crop_pct": 0.875},
    "stretched": {"resize": "stretch"},
    "an odd crop": {"crop_pct": 0.8},
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("size", [(40, 30), (30, 41), (200, 150), (24, 24), (7, 9)])
def test_the_graph_equals_pillow_within_one_gray_level(transparent, tmp_path, steps, size):
    preprocess = Preprocess(SIDE, mean=(0.4, 0.5, 0.6), std=(0.5, 0.5, 0.5), **steps)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    with PixelsRunner(export_pixels(transparent(), tmp_path / "m.onnx", preprocess)) as runner:
        seen = runner.run(np.asarray(image)).reshape(3, SIDE, SIDE)
    difference = np.abs(seen - preprocess(image))
    assert difference.max() < 1.01 * GRAY_LEVEL
    assert (difference > 0.5 * GRAY_LEVEL).mean() < 0.35  # noise is the worst case, photographs have a tenth of it


@pytest.fixture(scope="module")
def small(transparent, tmp_path_factory):
    preprocess = Preprocess(8, mean=(0.5,) * 3, std=(0.5,) * 3)
    return preprocess, PixelsRunner(export_pixels(transparent(8), tmp_path_factory.mktemp("m") / "m.onnx", preprocess))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 9))
def test_any_size_equals_pillow(small, width, height, seed):
    preprocess, runner = small
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    seen = runner.run(image).reshape(3, 8, 8)
    # Above a ratio of 16 Pillow resizes only the cropped part, so its first pass rounds other pixels.
    slack = 1.01 if max(width, height) <= 16 * min(width, height) else 3.01
    assert np.abs(seen - preprocess(Image.fromarray(image))).max() < slack * GRAY_LEVEL


def test_a_uniform_image_equals_pillow_exactly(small):
    preprocess, runner = small
    flat = np.full((50, 70, 3), 200, np.uint8)
    np.testing.assert_array_equal(runner.run(flat).reshape(3, 8, 8), preprocess(Image.fromarray(flat)))


def test_the_logits_equal_the_model_without_preprocessing(onnx_path, tmp_path, labels):
    preprocess = Preprocess(32)
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    with PixelsRunner(export_pixels(onnx_path, tmp_path / "m.onnx", preprocess)) as runner, OrtRunner(onnx_path) as own:
        assert (runner.name, runner.precision, runner.labels) == ("onnxruntime-pixels", "pixels", labels)
        expected = own.run(preprocess(Image.fromarray(image))[None])
        np.testing.assert_allclose(runner.run(image), expected, atol=0.02 * np.abs(expected).max())


def test_the_graph_has_only_standard_operators_and_a_named_input(onnx_path, tmp_path):
    model = onnx.load(export_pixels(onnx_path, tmp_path / "m.onnx", Preprocess(32)))
    assert {node.domain for node in model.graph.node} == {""}
    (image,) = model.graph.input
    shape = [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim]
    assert (image.name, image.type.tensor_type.elem_type) == (PICTURE, onnx.TensorProto.UINT8)
    assert shape == ["height", "width", 3]


def test_an_opset_without_antialiasing_is_refused(transparent, tmp_path):
    model = onnx.load(transparent())
    model.opset_import[0].version = 17
    onnx.save(model, tmp_path / "old.onnx")
    with pytest.raises(UsageError, match="opset 17"):
        export_pixels(tmp_path / "old.onnx", tmp_path / "m.onnx", Preprocess(SIDE))


@pytest.mark.parametrize("shape", [(5, 5), (3, 5, 5), (0, 5, 3), (1, 5, 5, 3)])
def test_other_arrays_than_images_are_refused(small, shape):
    with pytest.raises(DataError, match="uint8 image"):
        small[1].run(np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match="float32"):
        small[1].run(np.zeros((5, 5, 3), np.float32))


def test_each_runner_refuses_the_other_kind_of_input(onnx_path, tmp_path):
    with pytest.raises(DataError, match=r"instead of tensor\(uint8\)"):
        PixelsRunner(onnx_path)
    pixels = export_pixels(onnx_path, tmp_path / "m.onnx", Preprocess(32))
    with pytest.raises(DataError, match=r"instead of tensor\(float\)"):
        OrtRunner(pixels)
