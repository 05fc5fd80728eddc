"""Folding of backbone and training head to the deployed model, with a parity check."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tcs_edge.errors import DataError, ParityFailed, reason_of, short
from tcs_edge.methods import Method, SimKdStudent
from tcs_edge.models.cost import count_macs_m, count_params_m
from tcs_edge.models.feature_map import drop_head
from tcs_edge.students.build import deployable
from tcs_edge.tcs.head import check_fold
from tcs_edge.utils.files import write_bytes
from tcs_edge.utils.reading import parse_json, require_content

# Folding batch norms into kernels rounds once per layer, which is more than folding the head.
BRANCH_TOLERANCE = 1e-4
DEPLOYED = "deployed"  # metadata of the weights file
SIZES = ("channels", "width", "classes", "grid")  # of the blueprint
AGAIN = "Run compress again."


@torch.no_grad()
def fold_student(backbone: nn.Module, method: Method, images: Tensor) -> tuple[nn.Module, float]:
    """Fold backbone and method to the deployed model, in eval mode on the CPU.

    Args:
        images: (B, 3, S, S) real images, preprocessed, for the parity check.

    Returns:
        The deployed model, and the relative difference of its logits to the training head's.

    Raises:
        ParityFailed: the folded model does not give the training head's logits.
    """
    # Training used channels_last; with the contiguous layout a reloaded model gives the same bits.
    backbone = backbone.to("cpu", memory_format=torch.contiguous_format).eval()
    method = method.cpu().eval()
    folded = method.deployed(backbone).eval()
    reference = folded(images)
    difference = check_fold(method.logits(backbone, images), reference)
    model = deployable(folded)
    _check_branches(model(images), reference)
    return model, difference


def _check_branches(merged: Tensor, reference: Tensor) -> None:
    """Check the parity after merging parallel training branches (RepVGG style) into single convolutions."""
    difference = (merged - reference).abs().max() / reference.abs().max().clamp_min(1e-12)
    if not difference <= BRANCH_TOLERANCE:
        raise ParityFailed(
            f"merging the student's training branches changed the logits by {difference:.2e} of the largest "
            f"logit, the limit is {BRANCH_TOLERANCE:.0e}. Choose a --student without such branches."
        )


@torch.no_grad()
def divide_logits(model: nn.Module, temperature: float) -> None:
    """Divide the logits of a deployed model by `temperature` > 0, inside the weights of its last layer."""
    last = model.classifier if isinstance(model, SimKdStudent) else model[-1]
    last.weight /= temperature
    last.bias /= temperature


def deployed_cost(model: nn.Module, img_size: int) -> tuple[float, float]:
    """Cost of the deployed model: millions of parameters, and of multiply-accumulates for one image."""
    return count_params_m(model), count_macs_m(model, img_size)


def save_deployed(path: Path, model: nn.Module, temperature: float = 1.0) -> None:
    """Write the deployed model's weights as safetensors, with the blueprint for building it again.

    Args:
        temperature: divisor that `divide_logits` has folded into the weights; kept for `folded_temperature`.

    Raises:
        MissingError: the disk is full or the folder cannot be written.
    """
    shape = model.blueprint() if isinstance(model, SimKdStudent) else {}
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    # One entry, because safetensors writes several in an order that changes from file to file.
    write_bytes(path, save(tensors, {DEPLOYED: json.dumps({"blueprint": shape, "temperature": temperature})}))


def folded_temperature(path: Path) -> float:
    """Return the temperature in the weights of a file of `save_deployed`.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            temperature = _facts(stored, path).get("temperature")
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} has no temperature ({reason_of(error)}). {AGAIN}") from None
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise DataError(f"{path} has no temperature ({short(temperature)} is not a positive number). {AGAIN}")
    return float(temperature)


def load_deployed(path: Path, backbone: nn.Module, img_size: int) -> nn.Module:
    """Load the deployed model from `path`, with `backbone` as it was built before training.

    Raises:
        DataError: the file is damaged, a Git LFS pointer, or has another architecture.
    """
    require_content(path)
    try:
        with safe_open(path, framework="pt") as stored:
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            blueprint = _facts(stored, path).get("blueprint") or {}
        model = _rebuilt(backbone, state, blueprint, img_size)
        model.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} does not contain this student ({reason_of(error)}). {AGAIN}") from None
    return model.eval()


def _facts(stored: Any, path: Path) -> dict[str, Any]:
    """Return the metadata that `save_deployed` wrote; empty without them.

    Args:
        stored: open safetensors file.

    Raises:
        DataError: they are not a JSON object.
    """
    text = (stored.metadata() or {}).get(DEPLOYED, "{}")
    facts = parse_json(text.encode(), str(path), "has metadata that are not JSON", AGAIN)
    if not isinstance(facts, dict):
        raise DataError(f"{path} has metadata that are not a table. {AGAIN}")
    return facts


def _rebuilt(backbone: nn.Module, state: dict[str, Tensor], blueprint: Any, img_size: int) -> nn.Module:
    """Build the deployed network without its weights: a backbone and one Linear, or from a blueprint.

    Raises:
        ValueError: the sizes are not those of the tensors, so that the network could be of any size.
    """
    if blueprint:
        _check_blueprint(blueprint, state)
        drop_head(backbone, img_size)
        return SimKdStudent(deployable(backbone), **blueprint)
    head = state["1.weight"]
    if head.dim() != 2 or not head.numel():
        raise ValueError(f"1.weight has the shape {list(head.shape)}")
    classes, features = head.shape
    return nn.Sequential(deployable(backbone), nn.Linear(features, classes))


def _check_blueprint(blueprint: Any, state: dict[str, Tensor]) -> None:
    """Check that a blueprint has the sizes of the tensors, before anything of these sizes is made.

    Raises:
        ValueError: it has other sizes or types.
    """
    types = {name: type(value) for name, value in blueprint.items()} if isinstance(blueprint, dict) else {}
    if types != dict.fromkeys(SIZES, int) | {"signed": bool} or min(blueprint[name] for name in SIZES) < 1:
        raise ValueError("its blueprint is damaged")
    channels, width, classes = (blueprint[name] for name in SIZES[:3])
    half = width // 2
    expected = {
        "projector.0.weight": (half, channels, 1, 1), "projector.3.weight": (half, half, 3, 3),
        "classifier.weight": (classes, width),
    }  # fmt: skip
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(f"{name} has the shape {list(state[name].shape)}, its blueprint needs {list(shape)}")
