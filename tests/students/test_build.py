from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from tcs_edge.errors import DataError, MissingError, UnknownName, UsageError
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.models.hub import HubFile
from tcs_edge.students.build import (
    build_student,
    candidate_from_model,
    deployable,
    feature_dim,
    student_mean_std,
)

LITE0 = "weights/tf_efficientnet_lite0_in1k.safetensors"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def images(count: int, img_size: int) -> torch.Tensor:
    return torch.randn(count, 3, img_size, img_size, generator=torch.Generator().manual_seed(3))


def features(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(batch)


@pytest.mark.parametrize("name", CANDIDATES)
def test_every_candidate_builds_small_and_gives_pooled_features(name: str) -> None:
    model = build_student(name, 32, "random", seed=0)
    assert model.training
    assert features(model, images(2, 32)).shape == (2, CANDIDATES[name].feature_dim)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "lcnet_050", "ghostnet_100", "regnety_002"])
def test_the_features_are_the_input_of_timms_classifier(name: str, tmp_path: Path) -> None:
    """Features before the hidden layer would fail this test."""
    full = timm.create_model(name).eval()
    save_file(full.state_dict(), tmp_path / "full.safetensors")
    model = build_student(name, 64, tmp_path / "full.safetensors", seed=0)
    batch = images(2, 64)
    with torch.no_grad():
        expected = full(batch)
        actual = full.get_classifier()(model.eval()(batch))
    torch.testing.assert_close(actual, expected)


def test_random_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(11)
    first = build_student("lcnet_050", 32, "random", seed=5).state_dict()
    state = torch.random.get_rng_state()
    second = build_student("lcnet_050", 32, "random", seed=5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was used"
    other = build_student("lcnet_050", 32, "random", seed=6).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["conv_stem.weight"], other["conv_stem.weight"])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "efficientformerv2_s0"])
def test_weights_of_fixed_size_architectures_are_resampled(name: str, tmp_path: Path) -> None:
    full = timm.create_model(name)
    save_file(full.state_dict(), tmp_path / "full.safetensors")
    model = build_student(name, 96, tmp_path / "full.safetensors", seed=0)
    assert features(model, images(1, 96)).shape[1] == CANDIDATES[name].feature_dim
    key = "blocks.0.mlp.fc1.weight" if name.startswith("vit") else "stages.0.blocks.0.mlp.fc1.conv.weight"
    assert torch.equal(model.state_dict()[key], full.state_dict()[key])


@pytest.mark.parametrize("img_size", [32, 96, 256])
def test_attention_biases_keep_their_shape_over_the_offsets(img_size: int, tmp_path: Path) -> None:
    """A ramp over |dy| must stay a ramp with the same first and last value, on every grid."""
    state = timm.create_model("efficientformerv2_s0").state_dict()
    key = "stages.2.blocks.4.token_mixer.attention_biases"
    side = int(state[key].shape[1] ** 0.5)
    ramp = torch.linspace(0, 1, side).repeat_interleave(side)
    state[key] = ramp.expand_as(state[key]).contiguous()
    save_file(state, tmp_path / "full.safetensors")
    model = build_student("efficientformerv2_s0", img_size, tmp_path / "full.safetensors", seed=0)
    found = model.state_dict()[key]
    new = int(found.shape[1] ** 0.5)
    expected = torch.linspace(0, 1, new).repeat_interleave(new)
    torch.testing.assert_close(found, expected.expand_as(found))


def test_a_backbone_without_classifier_loads(tmp_path: Path) -> None:
    source = build_student("lcnet_050", 32, "random", seed=1)
    save_file(source.state_dict(), tmp_path / "backbone.safetensors")
    loaded = build_student("lcnet_050", 32, tmp_path / "backbone.safetensors", seed=2)
    assert torch.equal(features(loaded, images(2, 32)), features(source, images(2, 32)))


def test_half_precision_files_load_as_float32(tmp_path: Path) -> None:
    source = build_student("lcnet_050", 32, "random", seed=1)
    half = {key: value.half() if value.is_floating_point() else value for key, value in source.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    loaded = build_student("lcnet_050", 32, tmp_path / "half.safetensors", seed=2)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_the_real_weights_load(shared: Callable[[str], Path]) -> None:
    model = build_student("tf_efficientnet_lite0", 64, shared(LITE0), seed=0)
    found = features(model, images(4, 64))
    assert found.shape == (4, 1280)
    assert torch.isfinite(found).all()
    fresh = features(build_student("tf_efficientnet_lite0", 64, "random", seed=0), images(4, 64))
    assert not torch.allclose(found, fresh, atol=1e-3)


def test_error_names_the_keys_of_another_architecture(shared: Callable[[str], Path]) -> None:
    with pytest.raises(DataError, match=r"does not contain lcnet_050: \d+ missing \(.*\) and \d+ unexpected \("):
        build_student("lcnet_050", 32, shared(LITE0), seed=0)


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("mobilenetv3_small_100").state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(DataError, match=r"wide\.safetensors does not fit mobilenetv3_small_075 at 32 px"):
        build_student("mobilenetv3_small_075", 32, tmp_path / "wide.safetensors", seed=0)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".onnx", ""])
def test_pickles_are_refused_without_reading_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UsageError, match=r"Pass --student-init a safetensors file"):
        build_student("lcnet_050", 32, path, seed=0)


def test_a_pickle_under_a_safetensors_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    torch.save({"conv_stem.weight": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match="is a pickle"):
        build_student("lcnet_050", 32, path, seed=0)


def test_error_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no such weights file: .*gone\.safetensors"):
        build_student("lcnet_050", 32, tmp_path / "gone.safetensors", seed=0)


def test_error_of_an_offline_hub_names_the_needed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        build_student("lcnet_050", 32, "pretrained", seed=0)
    message = str(caught.value)
    assert "model.safetensors of timm/lcnet_050.ra2_in1k" in message
    assert "--student-init PATH" in message
    assert "\n" not in message


def test_random_weights_and_files_do_not_use_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("the hub was used")

    monkeypatch.setattr("tcs_edge.students.build.fetch", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    source = build_student("lcnet_050", 32, "random", seed=0)
    save_file(source.state_dict(), tmp_path / "own.safetensors")
    build_student("lcnet_050", 32, tmp_path / "own.safetensors", seed=0)


def test_pretrained_downloads_the_registered_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = []
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model("mobilenetv3_large_100").state_dict(), path)

    def download(remote: HubFile, what: str, flag: str) -> Path:
        requested.append((remote.repo, remote.filename))
        return path

    monkeypatch.setattr("tcs_edge.students.build.fetch", download)
    build_student("mobilenetv3_large_100", 32, "pretrained", seed=0)
    assert requested == [("timm/mobilenetv3_large_100.ra4_e3600_r224_in1k", "model.safetensors")]


def test_a_student_without_weights_cannot_be_pretrained() -> None:
    with pytest.raises(UsageError, match="lcnet_035 has no pretrained weights"):
        build_student("lcnet_035", 32, "pretrained", seed=0)


def test_any_timm_model_can_be_a_student() -> None:
    model = build_student("lcnet_035", 32, "random", seed=0)
    facts = candidate_from_model("lcnet_035")
    assert facts.feature_dim == feature_dim(model, 32) == 1280
    assert facts.params_m == pytest.approx(sum(p.numel() for p in model.parameters()) / 1e6)
    assert (facts.kind, facts.tag, facts.top1) == ("unknown", None, None)


@pytest.mark.parametrize(("name", "kind"), [("lcnet_035", "unknown"), ("vit_small_patch14_dinov2", "transformer")])
def test_models_with_patch_embedding_are_transformers(name, kind):
    assert candidate_from_model(name).kind == kind


@pytest.mark.parametrize("make", [lambda n: build_student(n, 32, "random", seed=0), candidate_from_model])
def test_an_unknown_name_shows_near_matches(make: object) -> None:
    with pytest.raises(UnknownName, match=r"'lcnet_05'. Did you mean .*lcnet_050"):
        make("lcnet_05")  # type: ignore[operator]


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(UsageError, match="efficientformerv2_s0 cannot take 100 px images"):
        build_student("efficientformerv2_s0", 100, "random", seed=0)


@pytest.mark.parametrize("name", ["repvit_m0_9", "fastvit_t8", "repghostnet_100", "resnet10t"])
def test_deployable_computes_the_same_without_more_parameters(name: str) -> None:
    model = build_student(name, 64, "random", seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = deployable(model)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    expected = features(model, images(2, 64))
    torch.testing.assert_close(features(folded, images(2, 64)), expected, rtol=1e-4, atol=1e-5)
    count = [sum(p.numel() for p in m.parameters()) for m in (folded, model)]
    assert count[0] < count[1] if name != "resnet10t" else count[0] == count[1]


def test_feature_dim_does_not_change_the_model() -> None:
    model = build_student("lcnet_050", 32, "random", seed=0)
    before = model.state_dict()["bn1.running_mean"].clone()
    feature_dim(model, 32)
    assert model.training
    assert torch.equal(model.state_dict()["bn1.running_mean"], before)


def test_normalization_matches_the_registered_weights() -> None:
    assert student_mean_std("tf_efficientnet_lite0") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert student_mean_std("resnet18")[0] == (0.485, 0.456, 0.406)
    assert student_mean_std("lcnet_035")[0] == (0.485, 0.456, 0.406)
