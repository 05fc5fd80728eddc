"""int8 transformers: onnxruntime computes linear layers in int8, and products in attention in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch

from tcs_edge.export.files import save_onnx
from tcs_edge.export.onnx import export_onnx
from tcs_edge.quantization.bias import correct_biases, input_means
from tcs_edge.quantization.gemm import read_for_int8, with_gemms
from tcs_edge.quantization.qdq import Scheme, int8_layers, products_of_values, quantized, with_float_layers
from tcs_edge.quantization.sensitivity import noise_share, run_model
from tcs_edge.runtimes.onnx_file import read_onnx
from tests.quantization.conftest import noise

PER_CHANNEL = Scheme(per_channel=True, signed_activations=False, seven_bit_weights=True)


@pytest.fixture(scope="module", params=[False, True], ids=["batch 1", "any batch"])
def source(request, tmp_path_factory, labels, preprocess) -> Path:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=len(labels), img_size=32).eval()
    path = tmp_path_factory.mktemp("vit") / "model.onnx"
    return export_onnx(model, path, 32, labels=labels, preprocess=preprocess, dynamic_batch=request.param)


@pytest.fixture(scope="module")
def int8(source) -> onnx.ModelProto:
    return quantized(source, PER_CHANNEL, [image[None] for image in noise(8)], source.with_name("ranges.json"))


def operators(model: onnx.ModelProto, folder: Path) -> list[str]:
    """Return the operators of the graph that onnxruntime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3  # it warns that the file fits this machine only
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


def test_gemms_compute_the_same_logits(source, tmp_path):
    before, after = read_onnx(source), read_for_int8(source)
    save_onnx(after, tmp_path / "valid.onnx")
    images = noise(1)
    np.testing.assert_allclose(run_model(after, images), run_model(before, images), rtol=1e-5, atol=1e-5)
    assert with_gemms(after) == after
    kept = [node for node in after.graph.node if node.op_type == "MatMul"]
    assert {node.name for node in kept} == set(products_of_values(after.graph)) != set()


def test_onnxruntime_computes_every_linear_layer_in_int8(source, int8, tmp_path):
    released = with_float_layers(int8, read_for_int8(source), ())
    found = operators(released, tmp_path)
    assert found.count("QGemm") == sum(node.op_type == "Gemm" for node in released.graph.node) > 4
    assert "Gemm" not in found


def test_products_in_attention_stay_float(source, int8):
    products = products_of_values(read_for_int8(source).graph)
    assert products
    assert not set(products) & set(int8_layers(int8))
    rounded = {name for node in int8.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    inputs = {name for node in int8.graph.node if node.name in products for name in node.input}
    assert not inputs & rounded


def test_linear_layers_get_corrected_biases_and_return_to_float(source, int8):
    original = read_for_int8(source)
    images = noise(8)
    corrected = correct_biases(int8, original, input_means(original, [image[None] for image in images]))
    assert corrected != int8
    alone = [image[None] for image in images]
    expected = np.concatenate([run_model(original, image) for image in alone])
    shares = [
        noise_share(expected, np.concatenate([run_model(model, image) for image in alone]))
        for model in (int8, corrected, with_float_layers(corrected, original, int8_layers(corrected)))
    ]
    assert shares[1] < shares[0] < 0.02
    assert shares[2] < 1e-6
