"""The simulation in PyTorch rounds as the int8 file of onnxruntime, and its gradients reach every weight."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from tcs_edge.export.onnx import export_onnx
from tcs_edge.quantization.gemm import read_for_int8
from tcs_edge.quantization.qdq import Scheme, with_float_layers
from tcs_edge.quantization.quantize import least_noisy
from tcs_edge.quantization.sensitivity import noise_share, run_model
from tcs_edge.quantization.simulate import rounded_weight, simulate_int8
from tcs_edge.runtimes.base import EMBEDDING, LOGITS
from tcs_edge.students.embedding import StudentWithEmbedding
from tests.quantization.conftest import noise

SIZE = 32
NETWORKS = {"test_vit": {"img_size": SIZE}, "test_efficientnet": {}, "mobilenetv3_small_050": {}, "mobilevit_xxs": {}}
ANYWHERE = Scheme(per_channel=True, signed_activations=False, seven_bit_weights=True)


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **NETWORKS[name])
    with torch.no_grad():
        model.train()(torch.from_numpy(noise(32)))  # statistics that a batch norm has after training
    return model.eval()


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_simulation_rounds_as_the_file(name, signed, tmp_path, recorder):
    model, images = network(name), noise(16)
    scheme = Scheme(per_channel=True, signed_activations=signed, seven_bit_weights=True)
    calibration = [image[None] for image in images[:8]]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rounded = simulate_int8(model, ["logits"], calibration, scheme)
    assert not [line for line in recorder.details if "is not a value" in line]
    source = export_onnx(model, tmp_path / "model.onnx", SIZE, labels=list("abcde"), preprocess={})
    int8 = with_float_layers(least_noisy(source, (scheme,), calibration, 1)[0], read_for_int8(source), ())
    expected = np.concatenate([run_model(int8, image[None]) for image in images[8:]])
    given = torch.from_numpy(images[8:])
    simulated, exact = rounded(given).detach().numpy(), model(given).detach().numpy()
    assert noise_share(expected, simulated) < 0.3 * noise_share(expected, exact)

    rounded(given).square().sum().backward()
    assert {key for key, weight in rounded.named_parameters() if weight.grad is None} == set()
    assert rounded.state_dict().keys() == before.keys()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_both_outputs_of_a_student_with_an_embedding_are_simulated():
    torch.manual_seed(0)
    backbone = timm.create_model("test_efficientnet", num_classes=0)
    head, coordinates = torch.nn.Linear(backbone.num_features, 5), torch.nn.Linear(backbone.num_features, 3)
    model = StudentWithEmbedding(torch.nn.Sequential(backbone, head), coordinates).eval()
    images = noise(8)
    rounded = simulate_int8(model, [LOGITS, EMBEDDING], [image[None] for image in images], ANYWHERE)
    given = torch.from_numpy(images)
    assert [tuple(one.shape) for one in rounded(given)] == [(8, 5), (8, 3)]
    model.load_state_dict(rounded.state_dict())
    for one, other in zip(rounded(given), model(given), strict=True):
        assert 0 < noise_share(other.detach().numpy(), one.detach().numpy()) < 0.1


def test_a_simulation_with_float_weights_is_not_the_file(monkeypatch):
    model, images = network("test_vit"), noise(12)
    calibration = [image[None] for image in images[:8]]
    given = torch.from_numpy(images[8:])
    rounded = simulate_int8(model, ["logits"], calibration, ANYWHERE)(given).detach().numpy()
    monkeypatch.setattr("tcs_edge.quantization.simulate.rounded_weight", lambda weight, _: weight)
    loose = simulate_int8(model, ["logits"], calibration, ANYWHERE)(given).detach().numpy()
    exact = model(given).detach().numpy()
    assert noise_share(exact, loose) < noise_share(exact, rounded)


def test_weights_have_one_scale_per_channel_and_plain_gradients():
    weight = torch.tensor([[1.0, 0.26, -0.1], [10.0, 2.6, -1.0], [0.0, 0.0, 0.0]], requires_grad=True)
    rounded = rounded_weight(weight, 4)
    torch.testing.assert_close(rounded, torch.tensor([[1.0, 0.25, 0.0], [10.0, 2.5, 0.0], [0.0, 0.0, 0.0]]))
    rounded.sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones(3, 3))
