"""Loading of a teacher by name, as a frozen model from normalized images to pooled features."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import DataError, UsageError
from tcs_edge.models.cost import count_params_m
from tcs_edge.models.hub import timm_hub_file
from tcs_edge.models.safetensors_file import read_state, require_finite, require_real
from tcs_edge.teachers import digits
from tcs_edge.teachers.info import Teacher, TeacherInfo
from tcs_edge.teachers.onnx_teacher import OnnxTeacherInfo, open_onnx_teacher
from tcs_edge.teachers.registry import TeacherSpec, canonical_name, teacher_spec
from tcs_edge.teachers.weights import WeightsFile, locate_weights
from tcs_edge.utils.files import sha256_file

DEFAULT_IMG_SIZE = 224
_CONVERTER_ERRORS = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
_HEADS = ("head.", "head_dist.", "fc.", "classifier.", "last_linear.")


class PooledFeatures(nn.Module):
    """A timm model that returns its pooled output after the final norm, float32 (B, d)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone.forward_features(images)
        return self.backbone.forward_head(features, pre_logits=True).float()


def describe_teacher(name: str, weights: Path | None = None, img_size: int | None = None) -> TeacherInfo:
    """Find a teacher's weights and describe it, without loading the model into memory.

    Args:
        name: a name of `registry.TEACHERS`, an alias, or `timm/NAME`.
        weights: a local safetensors file; None uses the hub cache or downloads.
        img_size: pixels, rounded to the nearest multiple of the model's patch size; None means 224.

    Raises:
        UnknownName, UsageError, DataError, MissingError: see `teacher_spec` and `locate_weights`.
    """
    spec = teacher_spec(name)
    if not spec.timm_name:
        return _describe_digits(spec, weights, img_size)
    outline = _outline(spec.timm_name)
    file = locate_weights(name, spec, weights)
    preprocess = _preprocess(outline.pretrained_cfg, _resolve_img_size(name, outline, img_size))
    return _info(canonical_name(name), spec, preprocess, outline, file)


def build_teacher(info: TeacherInfo, device: str | torch.device = "cpu") -> Teacher:
    """Read the weights of a described teacher into memory.

    Raises:
        DataError: the file does not fit the model.
    """
    if isinstance(info, OnnxTeacherInfo):
        module: nn.Module = open_onnx_teacher(info, torch.device(device))
    else:
        module = PooledFeatures(_timm_backbone(info)) if info.timm_name else _digits_module()
    module = module.to(device).eval().requires_grad_(False)
    values = {field.name: getattr(info, field.name) for field in fields(TeacherInfo)}
    return Teacher(**values, module=module)


def untrained_teacher(name: str, img_size: int | None = None) -> tuple[nn.Module, int]:
    """Build a teacher's architecture and its image size for timing; nothing is downloaded.

    The weights of timm models are random.

    Raises:
        UnknownName, UsageError: as `describe_teacher`.
    """
    spec = teacher_spec(name)
    if not spec.timm_name:
        return _digits_module(), digits.IMG_SIZE
    backbone = timm.create_model(spec.timm_name, pretrained=False, num_classes=0)
    size = _resolve_img_size(name, backbone, img_size)
    _set_img_size(backbone, size)
    return PooledFeatures(backbone).eval(), size


def is_cached(name: str) -> bool:
    """Return True if a teacher can be loaded without a download.

    Raises:
        UnknownName: the name is in no table.
    """
    spec = teacher_spec(name)
    if not spec.timm_name:
        return True
    remote = timm_hub_file(spec.timm_name)
    return remote is not None and remote.cached_path() is not None


def download_size_mb(name: str) -> float:
    """Approximate size of the weights' download in MB (10^6 bytes): float32, 4 bytes per parameter.

    Raises:
        UnknownName: the name is in no table.
    """
    spec = teacher_spec(name)
    params_m = spec.params_m or _params_m(_outline(spec.timm_name))
    return round(4 * params_m, 1)


def _outline(timm_name: str) -> nn.Module:
    """Create the model on the meta device, with shapes, config and parameter count but no storage."""
    with torch.device("meta"):
        return timm.create_model(timm_name, pretrained=False, num_classes=0)


def _params_m(module: nn.Module) -> float:
    return round(count_params_m(module), 2)


def _info(name: str, spec: TeacherSpec, preprocess: Preprocess, outline: nn.Module, file: WeightsFile) -> TeacherInfo:
    return TeacherInfo(
        name=name,
        timm_name=spec.timm_name,
        preprocess=preprocess,
        dim=getattr(outline, "head_hidden_size", None) or outline.num_features,
        license=spec.license,
        params_m=_params_m(outline),
        weights_path=file.path,
        weights_sha256=sha256_file(file.path),
        weights_source=file.source,
    )


def _describe_digits(spec: TeacherSpec, weights: Path | None, img_size: int | None) -> TeacherInfo:
    if weights is not None:
        raise UsageError("teacher 'digits' is built in. Leave --teacher-weights out.")
    if img_size not in (None, digits.IMG_SIZE):
        raise UsageError(f"teacher 'digits' takes {digits.IMG_SIZE} px only, got {img_size}. Leave the size out.")
    module = digits.load_digits_teacher().eval()  # small enough to load and run
    with torch.inference_mode():
        dim = module(torch.zeros(1, 3, digits.IMG_SIZE, digits.IMG_SIZE)).shape[1]
    return TeacherInfo(
        name="digits",
        timm_name="",
        preprocess=Preprocess(digits.IMG_SIZE, mean=digits.MEAN, std=digits.STD),
        dim=dim,
        license=spec.license,
        params_m=_params_m(module),
        weights_path=digits.WEIGHTS,
        weights_sha256=sha256_file(digits.WEIGHTS),
        weights_source="built in",
    )


def _digits_module() -> nn.Module:
    return digits.load_digits_teacher()


def _resolve_img_size(name: str, outline: nn.Module, img_size: int | None) -> int:
    config = outline.pretrained_cfg
    wanted = DEFAULT_IMG_SIZE if img_size is None else img_size
    if wanted < 1:
        raise UsageError(f"the teacher's image size must be above 0, got {wanted}. Try {DEFAULT_IMG_SIZE}.")
    if not config.get("fixed_input_size"):
        return wanted
    if hasattr(outline, "set_input_size"):
        patch: int = outline.feature_info[-1]["reduction"]
        return max(1, round(wanted / patch)) * patch
    native: int = config["input_size"][-1]
    if img_size not in (None, native):
        raise UsageError(f"teacher {name!r} takes {native} px only, got {img_size}. Leave the size out.")
    return native


def _preprocess(config: Mapping[str, Any], img_size: int) -> Preprocess:
    """Convert timm's data config to a `Preprocess` with the caller's image size."""
    data = resolve_data_config({}, pretrained_cfg=dict(config))
    resize: Literal["stretch", "shorter"] = "stretch" if data["crop_mode"] == "squash" else "shorter"
    return Preprocess(
        img_size=img_size,
        crop_pct=data["crop_pct"],
        resize=resize,
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )


def _timm_backbone(info: TeacherInfo) -> nn.Module:
    """Load the model at its native size, where every tensor fits; timm then resamples the position embeddings."""
    backbone = timm.create_model(info.timm_name, pretrained=False, num_classes=0)
    expected = backbone.state_dict()
    state = _native_layout(read_state(info.weights_path, expected.keys()), backbone, expected)
    _require_fit(info, state, expected)
    require_real(state, expected, info.weights_path)
    require_finite(state, info.weights_path)
    backbone.load_state_dict(state)
    _set_img_size(backbone, info.preprocess.img_size)
    return backbone


def _set_img_size(backbone: nn.Module, img_size: int) -> None:
    if backbone.pretrained_cfg.get("fixed_input_size") and hasattr(backbone, "set_input_size"):
        backbone.set_input_size(img_size=(img_size, img_size))


def _native_layout(state: dict[str, Tensor], backbone: nn.Module, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop classifier keys; let timm convert tensors of another size or in the authors' own layout."""
    if not _misfits(state, expected):
        return {key: state[key] for key in expected}
    converter = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if converter is not None:
        # A layout that timm does not support stays unchanged, and the caller lists its keys in an error.
        with contextlib.suppress(*_CONVERTER_ERRORS):
            state = converter(dict(state), backbone)
    return {key: state[key] for key in state if key in expected or not key.startswith(_HEADS)}


def _misfits(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    return [key for key in expected if key not in state or state[key].shape != expected[key].shape]


def _require_fit(info: TeacherInfo, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    reshaped = [key for key in _misfits(state, expected) if key in state]
    parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped)]
    problems = [f"{len(keys)} {what} ({', '.join(key[:100] for key in keys[:3])})" for what, keys in parts if keys]
    if problems:
        raise DataError(
            f"{info.weights_path} does not fit teacher {info.name!r} ({info.timm_name}). "
            f"Keys: {', '.join(problems)}. Pass the weights of this model."
        )
