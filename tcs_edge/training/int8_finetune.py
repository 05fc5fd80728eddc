"""Train a finished student a little further with the rounding of int8, as a copy for the int8 files alone.

The student in float32 is the teacher: the loss is the noise that the rounding adds to its outputs, on the training
images with their augmentation. So no labels are needed, and the copy learns to answer as the float32 files do.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.loader import TrainingBatches
from tcs_edge.errors import TrainingDiverged
from tcs_edge.quantization.qdq import Scheme
from tcs_edge.quantization.simulate import simulate_int8
from tcs_edge.runtimes.base import EMBEDDING, LOGITS
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.students.embedding import StudentWithEmbedding
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.distill import training_batches
from tcs_edge.training.modes import deterministic
from tcs_edge.training.schedule import Schedule
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

# Of the rate that trained the student: 1e-6 for a pretrained transformer, 2e-5 for a network from random weights
# (docs/explanation/decisions/0020).
LR_SHARE = 0.01
SMALLEST = 1e-12


def finetune_for_int8(
    model: nn.Module,
    images: ImageSet,
    preprocess: Preprocess,
    calibration: Sequence[np.ndarray],
    scheme: Scheme,
    options: ResolvedConfig,
) -> nn.Module:
    """Return a copy of `model`, trained for `options.int8.finetune_epochs` with the rounding of its int8 file.

    Args:
        model: deployed model, in eval mode on the CPU; it does not change.
        calibration: float32 (1, 3, S, S) each, for the ranges of the activations.

    Raises:
        TrainingDiverged: a loss is NaN or Inf.
        UsageError: the model cannot be exported for any batch.
        DataError: an image is not readable.
    """
    outputs = [LOGITS, EMBEDDING] if isinstance(model, StudentWithEmbedding) else [LOGITS]
    device = make_accelerator(options.device).device
    # Apple's GPU has no kernels for simulated rounding.
    device = device if device.type == "cuda" else torch.device("cpu")
    rounded = simulate_int8(model, outputs, calibration, scheme, device)
    exact = copy.deepcopy(model).to(device)
    with (
        closing(training_batches(images, preprocess, options, device)) as batches,
        deterministic(options.train.deterministic),
    ):
        _train(rounded, exact, batches, options)
    trained = copy.deepcopy(model)
    trained.load_state_dict(rounded.cpu().state_dict())
    return trained


def _train(rounded: nn.Module, exact: nn.Module, batches: TrainingBatches, options: ResolvedConfig) -> None:
    """Lower the noise of `rounded` against `exact`, in place."""
    epochs, weights = options.int8.finetune_epochs, list(rounded.parameters())
    schedule = Schedule(epochs, options.batch_size, LR_SHARE * options.lr, grad_clip=options.train.grad_clip)
    # No weight decay: the weights are to stay near the trained ones.
    optimizer = torch.optim.AdamW(weights, lr=schedule.lr, weight_decay=0.0)
    steps = epochs * len(batches)
    ticks = iter(track(range(steps), "training for int8", steps))
    for epoch in range(epochs):
        noises = []
        for step, (pixels, _, _) in enumerate(batches.of_epoch(epoch), start=epoch * len(batches)):
            optimizer.param_groups[0]["lr"] = schedule.lr_at(step, steps)
            optimizer.zero_grad()
            loss = _loss(rounded, exact, pixels.to(weights[0].device).contiguous())
            loss.backward()
            clip_grad_norm_(weights, schedule.grad_clip)
            optimizer.step()
            noises.append(loss.item())
            next(ticks, None)
        _tell_noise(sum(noises) / len(noises), epoch + 1, epochs)


def _loss(rounded: nn.Module, exact: nn.Module, images: Tensor) -> Tensor:
    """Return the sum of the outputs' noise."""
    with torch.no_grad():
        expected = _outputs(exact(images))
    pairs = zip(_outputs(rounded(images)), expected, strict=True)
    return torch.stack([noise(one, other) for one, other in pairs]).sum()


def _tell_noise(noise_share: float, epoch: int, epochs: int) -> None:
    if not math.isfinite(noise_share):
        raise TrainingDiverged(f"the noise became {noise_share} in epoch {epoch} of {epochs}")
    logger.info(f"int8: epoch {epoch} of {epochs}, noise {-10 * math.log10(max(noise_share, SMALLEST)):.1f} dB")


def noise(outputs: Tensor, expected: Tensor) -> Tensor:
    """Return the power of the difference over the power of `expected`, both (B, ...)."""
    return (outputs - expected).square().sum() / expected.square().sum().clamp_min(SMALLEST)


def _outputs(made: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return (made,) if isinstance(made, Tensor) else made
