"""Building of a student backbone: a timm model with pooled features and the requested weights."""

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
from tcs_edge.models.feature_map import blank_image
from tcs_edge.models.hub import HubFile, WantedWeights, fetch, timm_hub_file
from tcs_edge.models.names import refuse_hub_id
from tcs_edge.models.safetensors_file import check_safetensors, read_state, require_finite, require_real
from tcs_edge.utils.quiet import quiet
from tcs_edge.utils.reading import is_folder

Init = Literal["pretrained", "random"] | Path

FLAG = "--student-init"
# Loggers that warn about intended options.
CHATTY = ("timm", "huggingface_hub")
PUBLISHED_IMG_SIZE = 224
SHOWN_KEYS = 3
SHOWN_CHARS = 100  # of a key, which a file can make as long as it likes


def require_student(name: str) -> None:
    """Check that timm has this model.

    Raises:
        UnknownName: timm does not have it, or no weights of its tag; the message shows near matches.
        UsageError: an id of the model hub.
    """
    refuse_hub_id(name)
    if not timm.is_model(name):
        raise UnknownName("student", name, CANDIDATES, hint="Any timm model name will do.")
    if "." in name:
        architecture = name.partition(".")[0]
        try:
            timm.get_pretrained_cfg(name, allow_unregistered=False)
        except RuntimeError:
            raise UnknownName("student", name, [architecture, *timm.list_pretrained(f"{architecture}.*")]) from None


def build_student(name: str, img_size: int, init: Init, seed: int) -> nn.Module:
    """Build a student backbone in training mode: float (B, 3, img_size, img_size) -> features (B, d_s).

    The features are the pooled pre-logits, so a hidden layer after pooling (MobileNetV3, LCNet, ...) is kept.

    Args:
        name: a candidate, or any timm model name.
        img_size: side of the square input in pixels.
        init: "pretrained" loads the weights from the Hugging Face hub or its cache. "random" draws them with
            `seed`. A path loads a .safetensors file of this architecture, or the file in a folder that is named
            after it. Only "pretrained" may use the network.
        seed: seed of the random weights.

    Raises:
        UnknownName: timm has no such model.
        UsageError: the architecture cannot take this size or has no pretrained weights, or the file is not a
            safetensors file.
        DataError: the file does not contain the weights of this architecture.
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
    """Width d_s of the features of a built student; the model's mode and weights do not change."""
    return int(_dummy_features(model, img_size).shape[1])


def deployable(model: nn.Module) -> nn.Module:
    """Copy a model in eval mode, with parallel training branches (RepVGG style) folded into one convolution.

    The copy computes the same function up to rounding. A model without such branches is only copied.
    """
    return reparameterize_model(copy.deepcopy(model).eval(), inplace=True)


def student_mean_std(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return the per-channel (mean, std) for images in [0, 1] of this student's weights (timm's data config)."""
    cfg = timm.get_pretrained_cfg(_weights_name(name))
    return tuple(cfg.mean), tuple(cfg.std)


def candidate_from_model(name: str) -> Candidate:
    """Compute the facts about any timm model from the model itself at 224 px, without a download.

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
    """Create a randomly initialized backbone and check that it takes images of this size."""
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
    """Create timm's model without classifier, with the image size for architectures of a fixed resolution."""
    if timm.get_pretrained_cfg(name).fixed_input_size:
        options["img_size"] = img_size
    return timm.create_model(name, num_classes=0, **options)


def _dummy_features(model: nn.Module, img_size: int) -> Tensor:
    training = model.training
    try:
        with torch.no_grad():
            return model.eval()(blank_image(model, img_size))
    finally:
        model.train(training)


def _weights_name(name: str) -> str:
    """Full timm name of the pretrained weights: the registry's choice, else timm's default."""
    known = CANDIDATES.get(name)
    return known.weights if known and known.weights else name


def _weights_file(name: str, init: Init) -> Path | None:
    if init == "random":
        return None
    if init == "pretrained":
        wanted = wanted_student(name)
        return fetch(wanted.file, wanted.what, wanted.flag)
    return local_file(name, Path(init))


def local_file(name: str, place: Path) -> Path:
    """Return the weights file itself, or this student's file in a folder.

    In a folder the file is NAME.safetensors, or has timm's tag behind the name (NAME.TAG or NAME_TAG).

    Raises:
        MissingError: there is no such file.
        UsageError, DataError: the file is not a safetensors file.
    """
    path = place
    if is_folder(place):
        full = _weights_name(name)
        stems = (name, full, full.replace(".", "_"))
        path = next((place / f"{stem}.safetensors" for stem in stems if (place / f"{stem}.safetensors").exists()), path)
        if path == place:
            raise MissingError(f"no weights of {name} in {place}. Put {name}.safetensors there, or pass {FLAG} FILE.")
    check_safetensors(path, FLAG)
    return path


def weights_at_hand(name: str, init: Init) -> Path | None:
    """Return the local weights file for `build_student`, or None; nothing is downloaded.

    Raises:
        UsageError, DataError: the file is not a safetensors file.
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


def wanted_student(name: str) -> WantedWeights:
    """Return the hub file with a student's pretrained weights.

    Raises:
        UsageError: there is none.
    """
    remote = pretrained_file(name)
    if remote is None:
        raise UsageError(f"{name} has no pretrained weights. Pass {FLAG} random, or another student.")
    return WantedWeights(remote, f"student {name!r}", FLAG)


def pretrained_file(name: str) -> HubFile | None:
    """Return the hub file with this student's pretrained weights; None if there is none."""
    return timm_hub_file(_weights_name(name))


def pretrained_mb(name: str) -> float:
    """Approximate size of the student's pretrained weights in MB (10^6 bytes): float32, with their classifier."""
    full = _weights_name(name)
    with torch.device("meta"):
        model = timm.create_model(full, pretrained=False, num_classes=timm.get_pretrained_cfg(full).num_classes)
    return 4 * count_params_m(model)


def _with_weights(model: nn.Module, name: str, img_size: int, path: Path) -> nn.Module:
    """Create the same architecture with the weights of `path`, resampled to `img_size` where needed."""
    state = _with_resampled_biases(_backbone_state(model, name, path), model)
    try:
        # timm's own loading path resamples the position embeddings of vision transformers.
        loaded = _create(name, img_size, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{path.name} does not fit {name} at {img_size} px ({reason_of(error)}). Pass the weights of this student."
        ) from None
    return loaded.train()


def _backbone_state(model: nn.Module, name: str, path: Path) -> dict[str, Tensor]:
    """Read the file's tensors without the classifier, and check them against the model's names."""
    wanted = set(model.state_dict())
    classifier = _classifier_keys(name, wanted)
    state = read_state(path, wanted | classifier)
    backbone = {key: value for key, value in state.items() if key not in classifier}
    missing = sorted(key for key in wanted - set(backbone) if not key.endswith("num_batches_tracked"))
    unexpected = sorted(set(backbone) - wanted)
    if missing or unexpected:
        raise DataError(
            f"{path.name} does not contain {name}: {_differences(missing, unexpected)} "
            "Pass the weights of this student."
        )
    require_real(backbone, model.state_dict(), path)
    require_finite(backbone, path)
    return backbone


def _with_resampled_biases(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Resample LeViT-style attention biases, tables (heads, side * side) over |dy| and |dx|, to the model's grid."""
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
            parts.append(f"{len(keys)} {what} ({', '.join(key[:SHOWN_CHARS] for key in keys[:SHOWN_KEYS])}{more})")
    return " and ".join(parts) + "."
