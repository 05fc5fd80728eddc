"""int8 graphs: their content, and the exact return of layers to float."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from tcs_edge.errors import UsageError
from tcs_edge.export.files import save_onnx
from tcs_edge.quantization.qdq import HEAVY, Scheme, int8_layers, quantized, with_float_layers
from tcs_edge.quantization.sensitivity import noise_share, run_model
from tcs_edge.runtimes.onnxruntime import OrtRunner

IMAGES = np.random.default_rng(1).standard_normal((4, 3, 32, 32)).astype(np.float32)


def heavy(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type in HEAVY]


def weight_kinds(model: onnx.ModelProto) -> set[int]:
    """Return the types of the four-dimensional tensors that the model stores."""
    return {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}


def test_every_heavy_layer_has_stored_int8_weights(int8, original):
    assert int8_layers(int8) == tuple(heavy(original))
    assert weight_kinds(int8) == {onnx.TensorProto.INT8}
    assert int8.ByteSize() < 0.5 * original.ByteSize()


def run_as_written(model: onnx.ModelProto) -> np.ndarray:
    """Return the logits of `IMAGES` with float arithmetic between quantization and dequantization."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in IMAGES])


def test_the_int8_graph_is_close_to_the_float_model(int8, original):
    assert 1e-9 < noise_share(run_as_written(original), run_as_written(int8)) < 0.1


def test_seven_bit_weights_are_close_on_any_processor(onnx_path, calibration, original, tmp_path):
    # Eight-bit weights saturate on x86 processors without int8 dot products; seven-bit weights never do.
    anywhere = Scheme(per_channel=True, signed_activations=False, seven_bit_weights=True)
    int8 = quantized(onnx_path, anywhere, calibration, tmp_path / "ranges.json")
    share = noise_share(run_model(original, IMAGES), run_model(int8, IMAGES))
    assert 1e-9 < share < 0.02


def test_an_int8_file_runs_with_its_metadata(int8, tmp_path, labels):
    with OrtRunner(save_onnx(int8, tmp_path / "model.int8.onnx")) as runner:
        assert (runner.name, runner.precision, runner.labels) == ("onnxruntime-int8", "int8", labels)
    assert {entry.domain for entry in int8.opset_import} == {""}
    assert int8.opset_import[0].version == 18


def test_all_layers_in_float_equal_the_original(int8, original):
    restored = with_float_layers(int8, original, int8_layers(int8))
    np.testing.assert_array_equal(run_model(restored, IMAGES), run_model(original, IMAGES))
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in restored.graph.node}


def test_one_layer_in_float_stores_its_float_weights(int8, original, tmp_path):
    first, *others = int8_layers(int8)
    mixed = with_float_layers(int8, original, {first})
    assert int8_layers(mixed) == tuple(others)
    assert weight_kinds(mixed) == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT}
    save_onnx(mixed, tmp_path / "valid.onnx")
    assert int8_layers(int8) == (first, *others), "the passed model was changed"


def test_the_edited_graph_equals_a_quantization_without_the_layer(
    int8, original, onnx_path, calibration, ranges, monkeypatch
):
    """Compare onnxruntime's quantization without a layer with the edited graph."""
    left_out = int8_layers(int8)[2]
    edited = run_model(with_float_layers(int8, original, {left_out}), IMAGES)
    from onnxruntime import quantization

    real = quantization.quantize_static
    monkeypatch.setattr(
        "onnxruntime.quantization.quantize_static", lambda *a, **k: real(*a, **k | {"nodes_to_exclude": [left_out]})
    )
    anew = run_model(quantized(onnx_path, Scheme(True, False, False), calibration, ranges), IMAGES)
    # equal except for the 8-bit rounding around the layer, which onnxruntime keeps
    expected = run_model(original, IMAGES)
    assert noise_share(anew, edited) < noise_share(expected, anew)


def test_ranges_are_computed_once(onnx_path, ranges, int8):
    def read():
        raise AssertionError("an image was read again")
        yield

    again = quantized(onnx_path, Scheme(True, False, False), read(), ranges)
    assert again.SerializeToString(deterministic=True) == int8.SerializeToString(deterministic=True)


def test_seven_bit_weights_use_half_the_range(onnx_path, calibration, ranges):
    model = quantized(onnx_path, Scheme(False, False, seven_bit_weights=True), calibration, ranges)
    largest = max(np.abs(numpy_helper.to_array(t).astype(int)).max() for t in _int8_weights(model))
    assert largest <= 64


def test_per_tensor_has_one_scale_per_weight(onnx_path, calibration, ranges, int8):
    per_tensor = quantized(onnx_path, Scheme(False, False, False), calibration, ranges)
    assert _most_scales(per_tensor) == 1
    assert _most_scales(int8) > 1


@pytest.mark.parametrize(("signed", "kind"), [(True, onnx.TensorProto.INT8), (False, onnx.TensorProto.UINT8)])
def test_activations_are_signed_if_the_scheme_requires_it(onnx_path, calibration, ranges, signed, kind):
    model = quantized(onnx_path, Scheme(False, signed, False), calibration, ranges)
    zero_points = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert {t.data_type for t in model.graph.initializer if t.name in zero_points} == {kind}


def test_the_logits_are_not_rounded_to_eight_bit(int8):
    assert len(np.unique(run_model(int8, IMAGES)[:, 0])) == len(IMAGES)
    makers = {name: node.op_type for node in int8.graph.node for name in node.output}
    assert makers["logits"] not in ("DequantizeLinear", "QuantizeLinear")


def test_a_model_that_onnxruntime_cannot_quantize_is_refused(onnx_path, calibration, tmp_path, monkeypatch):
    def broken(*_arguments, **_options):
        raise ValueError("no\nscale")

    monkeypatch.setattr("onnxruntime.quantization.quantize_static", broken)
    with pytest.raises(UsageError, match=r"no scale\. Omit int8"):
        quantized(onnx_path, Scheme(True, False, False), calibration, tmp_path / "ranges.json")


def test_quantizing_is_silent(onnx_path, calibration, tmp_path, capfd):
    quantized(onnx_path, Scheme(False, False, False), calibration, tmp_path / "ranges.json")
    assert capfd.readouterr() == ("", "")


def _int8_weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]


def _most_scales(model: onnx.ModelProto) -> int:
    scales = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return max(int(np.prod(t.dims)) for t in model.graph.initializer if t.name in scales)
