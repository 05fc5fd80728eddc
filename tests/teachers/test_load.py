from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import DataError, UsageError
from tcs_edge.teachers.load import Teacher, build_teacher, describe_teacher
from tcs_edge.utils.files import sha256_file

DINOV2 = "weights/vit_small_patch14_dinov2_saliency.fp16.safetensors"
LITE0 = "weights/tf_efficientnet_lite0_in1k.safetensors"


def load_teacher(name: str, weights: Path | None = None, img_size: int | None = None) -> Teacher:
    return build_teacher(describe_teacher(name, weights, img_size))


def _images(size: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_teacher_is_frozen_and_in_eval_mode(vit_weights: Path) -> None:
    teacher = load_teacher("timm/test_vit", vit_weights)
    assert not any(module.training for module in teacher.module.modules())
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())
    with pytest.raises(FrozenInstanceError):
        teacher.dim = 3  # type: ignore[misc]


def test_description_matches_the_teacher_and_the_file(vit_weights: Path) -> None:
    teacher = load_teacher("timm/test_vit", vit_weights)
    info = describe_teacher("timm/test_vit", vit_weights)
    assert teacher.to_json() == info.to_json()
    assert json.loads(json.dumps(info.to_json()))["preprocess"] == info.preprocess.to_json()
    assert info.weights_sha256 == sha256_file(vit_weights)
    assert info.license == "apache-2.0"
    assert info.params_m == pytest.approx(sum(p.numel() for p in teacher.module.parameters()) / 1e6, abs=0.01)


@pytest.mark.parametrize(("name", "fixture"), [("test_vit", "vit_weights"), ("test_efficientnet", "cnn_weights")])
def test_features_are_the_pooled_output_after_the_final_norm(
    name: str, fixture: str, request: pytest.FixtureRequest
) -> None:
    weights = request.getfixturevalue(fixture)
    native = timm.get_pretrained_cfg(name).input_size[-1]
    teacher = load_teacher(f"timm/{name}", weights, img_size=native)
    reference = timm.create_model(name, num_classes=0).eval()
    reference.load_state_dict(load_file(weights))
    images = _images(native)
    with torch.inference_mode():
        features = teacher.module(images)
        expected = reference(images)  # with num_classes=0 timm's forward is the pooled features
    assert features.shape == (2, teacher.dim)
    assert features.dtype == torch.float32
    assert torch.allclose(features, expected, atol=1e-5)


def test_preprocess_equals_timms_data_config(vit_weights: Path, cnn_weights: Path) -> None:
    vit = describe_teacher("timm/test_vit", vit_weights).preprocess
    assert vit == Preprocess(224, 0.95, "shorter", "bicubic", (0.5,) * 3, (0.5,) * 3)
    cnn = describe_teacher("timm/test_efficientnet", cnn_weights).preprocess
    assert cnn.mean == (0.485, 0.456, 0.406)
    assert cnn.std == (0.229, 0.224, 0.225)


def test_crop_mode_squash_becomes_stretch(vit_weights: Path) -> None:
    name = "timm/vit_base_patch16_clip_384.laion2b_ft_in1k"
    assert describe_teacher(name, vit_weights).preprocess.resize == "stretch"


@pytest.mark.parametrize(("asked", "settled"), [(None, 224), (100, 96), (1, 16), (32, 32), (160, 160)])
def test_size_is_rounded_to_the_patches(vit_weights: Path, asked: int | None, settled: int) -> None:
    teacher = load_teacher("timm/test_vit", vit_weights, img_size=asked)
    assert teacher.preprocess.img_size == settled
    assert torch.isfinite(teacher.module(_images(settled))).all()


def test_convolutional_teacher_takes_any_size(cnn_weights: Path) -> None:
    teacher = load_teacher("timm/test_efficientnet", cnn_weights, img_size=75)
    assert teacher.preprocess.img_size == 75
    assert teacher.module(_images(75)).shape == (2, teacher.dim)


@pytest.mark.parametrize("size", [0, -3])
def test_impossible_size_is_refused(vit_weights: Path, size: int) -> None:
    with pytest.raises(UsageError, match="above 0"):
        describe_teacher("timm/test_vit", vit_weights, img_size=size)


def test_model_with_a_single_size_keeps_it(vit_weights: Path) -> None:
    assert describe_teacher("timm/levit_128s", vit_weights).preprocess.img_size == 224
    with pytest.raises(UsageError, match="224 px only"):
        describe_teacher("timm/levit_128s", vit_weights, img_size=128)


def test_resampled_positions_equal_timms_resampling(vit_weights: Path) -> None:
    teacher = load_teacher("timm/test_vit", vit_weights, img_size=96)
    overlay = {"file": str(vit_weights), "num_classes": 0}
    other = timm.create_model(
        "test_vit", pretrained=True, num_classes=0, img_size=96, pretrained_cfg_overlay=overlay
    ).eval()
    with torch.inference_mode():
        assert torch.allclose(teacher.module(_images(96)), other(_images(96)), atol=1e-5)


def _rewritten(source: Path, target: Path, rename: Callable[[str], str], **extra: torch.Tensor) -> Path:
    save_file({rename(key): value for key, value in load_file(source).items()} | extra, target)
    return target


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.", "module.model."])
def test_wrapper_prefixes_and_heads_are_ignored(vit_weights: Path, tmp_path: Path, prefix: str) -> None:
    heads = {"head.weight": torch.ones(9, 64), "fc.bias": torch.ones(9)}
    path = _rewritten(vit_weights, tmp_path / "w.safetensors", lambda key: prefix + key, **heads)
    images = _images(32)
    with torch.inference_mode():
        plain = load_teacher("timm/test_vit", vit_weights, 32).module(images)
        assert torch.equal(load_teacher("timm/test_vit", path, 32).module(images), plain)


def test_half_precision_file_gives_float32_features(vit_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({key: value.half() for key, value in load_file(vit_weights).items()}, path)
    teacher = load_teacher("timm/test_vit", path, 32)
    assert {parameter.dtype for parameter in teacher.module.parameters()} == {torch.float32}
    full = load_teacher("timm/test_vit", vit_weights, 32).module(_images(32))
    assert torch.allclose(teacher.module(_images(32)), full, atol=2e-2)


def test_file_of_another_size_is_resampled(vit_weights: Path, tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=0, img_size=64)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    teacher = load_teacher("timm/test_vit", tmp_path / "w.safetensors", img_size=64)
    expected = model.eval()(_images(64))
    got = teacher.module(_images(64))
    # upsampled to the native size and downsampled again: close, not equal
    assert torch.nn.functional.cosine_similarity(got, expected).min() > 0.98


def test_missing_and_unexpected_keys_are_named(vit_weights: Path, tmp_path: Path) -> None:
    rename = {"norm.weight": "norm.gamma"}
    path = _rewritten(vit_weights, tmp_path / "w.safetensors", lambda key: rename.get(key, key))
    with pytest.raises(DataError, match=r"1 missing \(norm.weight\), 1 unexpected \(norm.gamma\)") as caught:
        load_teacher("timm/test_vit", path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(cnn_weights: Path, vit_weights: Path) -> None:
    with pytest.raises(DataError, match="does not fit teacher 'timm/test_vit'"):
        load_teacher("timm/test_vit", cnn_weights)
    with pytest.raises(DataError, match="does not fit teacher 'timm/test_efficientnet'"):
        load_teacher("timm/test_efficientnet", vit_weights)


def test_tensor_of_another_shape_is_refused(cnn_weights: Path, tmp_path: Path) -> None:
    state = load_file(cnn_weights)
    state["bn1.weight"] = torch.ones(3)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"1 of another shape \(bn1.weight\)"):
        load_teacher("timm/test_efficientnet", tmp_path / "w.safetensors")


def test_describing_allocates_no_weights(vit_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[torch.nn.Module] = []
    create = timm.create_model

    def watched(*args: object, **kwargs: object) -> torch.nn.Module:
        built.append(create(*args, **kwargs))
        return built[-1]

    monkeypatch.setattr(timm, "create_model", watched)
    describe_teacher("timm/test_vit", vit_weights)
    assert built
    assert all(parameter.is_meta for module in built for parameter in module.parameters())


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for the built-in teacher's module."""
    weights = tmp_path / "digits.safetensors"
    weights.write_bytes(b"weights")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 5))
    stand_in = SimpleNamespace(
        WEIGHTS=weights, IMG_SIZE=32, MEAN=(0.1,) * 3, STD=(0.2,) * 3, load_digits_teacher=lambda: network
    )
    monkeypatch.setattr("tcs_edge.teachers.load.digits", stand_in)
    return stand_in


def test_built_in_teacher_needs_no_file(built_in: SimpleNamespace) -> None:
    teacher = load_teacher("digits")
    assert (teacher.dim, teacher.params_m, teacher.license) == (5, 0.02, "apache-2.0")
    assert teacher.preprocess == Preprocess(32, mean=(0.1,) * 3, std=(0.2,) * 3)
    assert teacher.weights_sha256 == sha256_file(built_in.WEIGHTS)
    assert teacher.module(_images(32)).shape == (2, 5)
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())


@pytest.mark.usefixtures("built_in")
def test_built_in_teacher_takes_no_other_weights_or_size(vit_weights: Path) -> None:
    with pytest.raises(UsageError, match="built in"):
        describe_teacher("digits", vit_weights)
    with pytest.raises(UsageError, match="32 px only"):
        describe_teacher("digits", img_size=64)


def test_real_built_in_teacher_loads() -> None:
    from tcs_edge.teachers import digits

    teacher = load_teacher("digits")
    assert teacher.license == digits.LICENSE.lower()
    assert teacher.weights_path == digits.WEIGHTS
    with torch.inference_mode():
        features = teacher.module(_images(digits.IMG_SIZE))
    assert features.shape == (2, teacher.dim)
    assert features.dtype == torch.float32


def test_real_dinov2_file_loads_at_224_px(shared: Callable[[str], Path]) -> None:
    teacher = load_teacher("dinov2", shared(DINOV2))
    assert (teacher.preprocess.img_size, teacher.dim, teacher.params_m) == (224, 384, 22.06)
    with torch.inference_mode():
        features = teacher.module(_images(224)).numpy()
    assert np.isfinite(features).all()
    assert np.ptp(features, axis=0).max() > 0.1


def test_real_efficientnet_file_loads(shared: Callable[[str], Path]) -> None:
    teacher = load_teacher("timm/tf_efficientnet_lite0", shared(LITE0), img_size=64)
    assert teacher.preprocess.mean == (0.5, 0.5, 0.5)
    with torch.inference_mode():
        assert teacher.module(_images(64)).shape == (2, 1280)
