"""Float16 weights: half the size, float32 arithmetic, and no overflow."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from tcs_edge.errors import DataError
from tcs_edge.export.files import save_onnx
from tcs_edge.export.fp16 import SMALLEST, export_onnx_fp16
from tcs_edge.runtimes.metadata import read_onnx_metadata
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.openvino.export import export_openvino
from tcs_edge.runtimes.openvino.library import core

Type = onnx.TensorProto


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((count, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def halved(onnx_path, tmp_path_factory):
    return export_onnx_fp16(onnx_path, tmp_path_factory.mktemp("fp16") / "model.fp16.onnx")


def test_large_weights_take_half_the_bytes(onnx_path, halved):
    kinds = {t.name: (t.data_type, int(np.prod(t.dims))) for t in onnx.load(halved).graph.initializer}
    assert [name for name, (kind, size) in kinds.items() if kind == Type.FLOAT and size >= SMALLEST] == []
    assert halved.stat().st_size < 0.7 * onnx_path.stat().st_size


def test_logits_equal_the_model_with_rounded_weights(onnx_path, halved, tmp_path):
    rounded = onnx.load(onnx_path)
    for tensor in rounded.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == Type.FLOAT and values.size >= SMALLEST:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16).astype(np.float32), tensor.name))
    onnx.save(rounded, tmp_path / "rounded.onnx")
    expected = OrtRunner(tmp_path / "rounded.onnx").run(noise(2))
    np.testing.assert_allclose(OrtRunner(halved).run(noise(2)), expected, atol=1e-6 * np.abs(expected).max())


def test_the_runtime_removes_every_cast(halved, tmp_path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(str(halved), options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "Cast" not in kinds
    assert "Conv" in kinds or "FusedConv" in kinds


def test_inputs_outputs_and_names_are_kept(onnx_path, halved, labels):
    before, after = read_onnx_metadata(onnx_path), read_onnx_metadata(halved)
    assert after == before | {"precision": "fp16"}
    with OrtRunner(halved) as runner:
        assert (runner.name, runner.precision, runner.labels) == ("onnxruntime-fp16", "f16-weights", labels)
        assert runner.run(noise(1)).dtype == np.float32


def test_a_weight_beyond_float16_stays_float32(onnx_path, tmp_path):
    model = onnx.load(onnx_path)
    huge = next(t for t in model.graph.initializer if t.data_type == Type.FLOAT and np.prod(t.dims) >= SMALLEST)
    huge.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(huge) * 1e6, huge.name))
    save_onnx(model, tmp_path / "huge.onnx")
    stored = onnx.load(export_onnx_fp16(tmp_path / "huge.onnx", tmp_path / "half.onnx")).graph.initializer
    assert {t.data_type for t in stored if t.name == huge.name} == {Type.FLOAT}
    assert all(np.isfinite(numpy_helper.to_array(t)).all() for t in stored)


def test_openvino_fp16_has_half_the_bytes_and_its_precision(onnx_path, xml_path, tmp_path):
    xml, weights = export_openvino(onnx_path, tmp_path / "model.fp16.xml", precision="fp16")
    assert weights.stat().st_size < 0.7 * xml_path.with_suffix(".bin").stat().st_size
    assert core().read_model(xml).get_rt_info(["tcs_edge", "precision"]).value == "fp16"
    with OpenVinoRunner(xml) as runner, OpenVinoRunner(xml_path) as full:
        assert (runner.name, runner.precision, runner.arithmetic) == ("openvino-fp16", "f16-weights", "f32")
        difference = np.abs(runner.run(noise(4)) - full.run(noise(4))).max()
    assert 0 < difference < 0.02


def test_a_file_that_is_not_onnx_is_a_data_error(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"model\.onnx"):
        export_onnx_fp16(tmp_path / "model.onnx", tmp_path / "half.onnx")
