"""From backbone and training head to the model that is deployed: folded, and checked."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tcs_edge.errors import DataError, ParityFailed
from tcs_edge.files import atomic_path
from tcs_edge.methods import Method
from tcs_edge.students.build import deployable
from tcs_edge.tcs.head import check_fold

# Batch norms folded into kernels round once per layer, more than the single product of a head.
BRANCH_TOLERANCE = 1e-4


@torch.no_grad()
def fold_student(backbone: nn.Module, method: Method, images: Tensor) -> tuple[nn.Module, float]:
    """The deployed model in eval mode on the CPU, and the fold's relative difference.

    Args:
        images: (B, 3, S, S) real images, preprocessed; the fold is checked on them.

    Raises:
        ParityFailed: the folded layer does not give the training head's logits.
    """
    # Training used channels_last; the plain layout makes a reloaded model give the same bits.
    backbone = backbone.to("cpu", memory_format=torch.contiguous_format).eval()
    method = method.cpu().eval()
    folded = method.deployed(backbone).eval()
    reference = folded(images)
    difference = check_fold(method.logits(backbone, images), reference)
    model = deployable(folded)
    _check_branches(model(images), reference)
    return model, difference


def _check_branches(merged: Tensor, reference: Tensor) -> None:
    """Parallel training branches (RepVGG style) were merged into single convolutions: prove it."""
    difference = (merged - reference).abs().max() / reference.abs().max().clamp_min(1e-12)
    if not difference <= BRANCH_TOLERANCE:
        raise ParityFailed(
            f"merging the student's training branches changed the logits by {difference:.2e} of the largest "
            f"one, {BRANCH_TOLERANCE:.0e} is allowed. Choose a --student without such branches."
        )


def save_deployed(path: Path, model: nn.Module) -> None:
    """Write the deployed model's weights as safetensors."""
    with atomic_path(path) as draft:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, draft)


def load_deployed(path: Path, backbone: nn.Module) -> nn.Sequential:
    """The deployed model again: `backbone` as it was built before training, weights from `path`.

    Raises:
        DataError: the file is damaged, or holds another architecture.
    """
    try:
        state = load_file(path)
        classes, features = state["1.weight"].shape
        model = nn.Sequential(deployable(backbone), nn.Linear(features, classes))
        model.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} does not hold this student ({reason}). Run compress again.") from None
    return model.eval()
