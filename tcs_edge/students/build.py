"""Builds a student backbone: a timm model that ends in pooled features, with the weights asked for."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.layers import PatchEmbed
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.nn import functional

from tcs_edge.errors import DataError, MissingError, UnknownName, UsageError, reason_of
from tcs_edge.models.candidates import CANDIDATES, Candidate, Kind
from tcs_edge.models.cost import count_macs_m, count_params_m
from tcs_edge.models.hub import HubFile, fetch, timm_hub_file
from tcs_edge.models.safetensors_file import check_safetensors, read_state
from tcs_edge.utils.quiet import quiet

Init = Literal["pretrained", "random"] | Path

FLAG = "--student-init"
# They warn about what tcs-edge asks for on purpose.
CHATTY = ("timm", "huggingface_hub")
PUBLISHED_IMG_SIZE = 224
SHOWN_KEYS = 3


def require_student(name: str) -> None:
    """Fail unless timm has this model.

    Raises:
        UnknownName: it has not; near matches are shown.
    """
    if not timm.is_model(name):
        raise UnknownName("student", name, CANDIDATES, hint="Any timm model name will do.")


def build_student(name: str, img_size: int, init: Init, seed: int) -> nn.Module:
    """A student backbone in training mode: float (B, 3, img_size, img_size) -> features (B, d_s).

    The features are pooled and pre-logits: a hidden layer after pooling (MobileNetV3, LCNet, ...) is kept.

    Args:
        name: a candidate, or any timm model name.
        img_size: side of the square input in pixels.
        init: "pretrained" fetches the weights through the Hugging Face hub (or its cache), "random" draws
            them from `seed`, a path loads a .safetensors file of this architecture, or the one in a folder that
            is named after it. Only "pretrained" may use the network.
        seed: of the random weights.

    Raises:
        UnknownName: timm has no such model.
        UsageError: the architecture cannot take this size, has no pretrained weights, or the file is no
            safetensors file.
        DataError: the file does not hold this architecture's weights.
        MissingError: the file is missing, or the hub cannot be reached.
    """
    require_student(name)
    weights = _weights_file(name, init)
    with quiet(*CHATTY):
        model = _new_model(name, img_size, seed)
        if weights is not None:
            model = _with_weights(model, name, img_size, weights)
    return model


def feature_dim(model: nn.Module, img_size: int) -> int:
    """Width d_s of the features of a built student; the model's mode and weights stay as they are."""
    return int(_dummy_features(model, img_size).shape[1])


def deployable(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose parallel training branches (RepVGG style) are folded into one convolution.

    The same function up to rounding; a model without such branches is only copied.
    """
    return reparameterize_model(copy.deepcopy(model).eval(), inplace=True)


def student_mean_std(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Per-channel (mean, std) of images in [0, 1] that this student's weights expect (timm's data config)."""
    cfg = timm.get_pretrained_cfg(_weights_name(name))
    return tuple(cfg.mean), tuple(cfg.std)


def candidate_from_model(name: str) -> Candidate:
    """The facts about any timm model, computed from the model itself at 224 px; nothing is downloaded.

    Raises:
        UnknownName: timm has no such model.
    """
    require_student(name)
    with quiet(*CHATTY), torch.device("meta"):
        model = deployable(_create(name, PUBLISHED_IMG_SIZE))
        width = feature_dim(model, PUBLISHED_IMG_SIZE)
        macs_m = count_macs_m(model, PUBLISHED_IMG_SIZE)
    in_patches = any(isinstance(module, PatchEmbed) for module in model.modules())
    kind: Kind = "transformer" if in_patches else "unknown"
    return Candidate(name, kind, count_params_m(model), width, macs_m)


def _new_model(name: str, img_size: int, seed: int) -> nn.Module:
    """A randomly initialized backbone that has proved it takes images of this size."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _create(name, img_size)
        features = _dummy_features(model, img_size)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"student {name} cannot take {img_size} px images ({reason_of(error)}). "
            "Choose another --img-size or --student."
        ) from None
    if features.ndim != 2:
        raise UsageError(
            f"student {name} gives features of shape {tuple(features.shape)}, not (batch, width). "
            "Choose another --student."
        )
    return model


def _create(name: str, img_size: int, **options: Any) -> nn.Module:
    """timm's model without classifier; architectures tied to one resolution are told theirs."""
    if timm.get_pretrained_cfg(name).fixed_input_size:
        options["img_size"] = img_size
    return timm.create_model(name, num_classes=0, **options)


def _dummy_features(model: nn.Module, img_size: int) -> Tensor:
    training = model.training
    try:
        with torch.no_grad():
            return model.eval()(torch.zeros(1, 3, img_size, img_size))
    finally:
        model.train(training)


def _weights_name(name: str) -> str:
    """timm's full name of the pretrained weights: the registry's choice, else timm's default."""
    known = CANDIDATES.get(name)
    return known.weights if known and known.weights else name


def _weights_file(name: str, init: Init) -> Path | None:
    if init == "random":
        return None
    if init == "pretrained":
        return _download(name)
    return local_file(name, Path(init))


def local_file(name: str, place: Path) -> Path:
    """The weights file itself, or in a folder the one of this student: NAME.safetensors, or with timm's tag behind
    the name (NAME.TAG or NAME_TAG).

    Raises:
        MissingError: nothing there. UsageError, DataError: no safetensors file.
    """
    path = place
    if place.is_dir():
        full = _weights_name(name)
        stems = (name, full, full.replace(".", "_"))
        path = next((place / f"{stem}.safetensors" for stem in stems if (place / f"{stem}.safetensors").exists()), path)
        if path == place:
            raise MissingError(
                f"{place} holds no weights of {name}. Put {name}.safetensors there, or pass {FLAG} FILE."
            )
    check_safetensors(path, FLAG)
    return path


def weights_at_hand(name: str, init: Init) -> Path | None:
    """The file that `build_student` would read; None if there is none on this machine. Nothing is downloaded.

    Raises:
        UsageError, DataError: the file is no safetensors file.
    """
    if init == "random":
        return None
    if init == "pretrained":
        remote = pretrained_file(name)
        return remote.cached_path() if remote else None
    try:
        return local_file(name, Path(init))
    except MissingError:
        return None


def _download(name: str) -> Path:
    """The hub's safetensors file of this student, from the local cache where it is there."""
    remote = pretrained_file(name)
    if remote is None:
        raise UsageError(f"{name} has no pretrained weights. Pass {FLAG} random, or another student.")
    return fetch(remote, f"student {name!r}", FLAG)


def pretrained_file(name: str) -> HubFile | None:
    """Where the hub keeps this student's pretrained weights; None when it does not."""
    return timm_hub_file(_weights_name(name))


def _with_weights(model: nn.Module, name: str, img_size: int, path: Path) -> nn.Module:
    """The same architecture with the weights of `path`; position embeddings are resampled to `img_size`."""
    state = _with_resampled_biases(_backbone_state(model, name, path), model)
    try:
        # timm's own loading path resamples the position embeddings of vision transformers.
        loaded = _create(name, img_size, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path.name} does not fit {name} at {img_size} px: {reason_of(error)}") from None
    return loaded.train()


def _backbone_state(model: nn.Module, name: str, path: Path) -> dict[str, Tensor]:
    """The file's tensors without the classifier's, checked against the model's names."""
    wanted = set(model.state_dict())
    classifier = _classifier_keys(name, wanted)
    state = read_state(path, wanted | classifier)
    backbone = {key: value for key, value in state.items() if key not in classifier}
    missing = sorted(key for key in wanted - set(backbone) if not key.endswith("num_batches_tracked"))
    unexpected = sorted(set(backbone) - wanted)
    if missing or unexpected:
        raise DataError(
            f"{path.name} does not hold {name}: {_differences(missing, unexpected)} "
            "Pass the weights of this very student."
        )
    return backbone


def _with_resampled_biases(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """LeViT-style attention biases, tables over |dy| and |dx| of (heads, side * side), on the model's grid."""
    resampled = dict(state)
    for key, own in model.state_dict().items():
        given = state.get(key)
        if not key.endswith("attention_biases") or given is None or given.shape == own.shape:
            continue
        heads, old, new = len(given), math.isqrt(given.shape[1]), math.isqrt(own.shape[1])
        grid = functional.interpolate(
            given.reshape(1, heads, old, old), size=(new, new), mode="bilinear", align_corners=True
        )
        resampled[key] = grid.reshape(heads, new * new)
    return resampled


def _classifier_keys(name: str, backbone_keys: set[str]) -> set[str]:
    with torch.device("meta"):
        return set(timm.create_model(name).state_dict()) - backbone_keys


def _differences(missing: list[str], unexpected: list[str]) -> str:
    parts = []
    for what, keys in (("missing", missing), ("unexpected", unexpected)):
        if keys:
            more = ", ..." if len(keys) > SHOWN_KEYS else ""
            parts.append(f"{len(keys)} {what} ({', '.join(keys[:SHOWN_KEYS])}{more})")
    return " and ".join(parts) + "."
