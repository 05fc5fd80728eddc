"""Make the outputs of a student with random weights depend on the image, so that a wrong conversion shows.

Before training, activations of many architectures vanish, and residual branches are scaled to nearly zero. A fault
would then hide below the limits of the validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

SHIFTS = (1.0, 0.5, 0.25, 0.0)  # of batch norms, in standard deviations
HARMLESS = 1e-5  # rounding well below the float32 limit of 1e-4
INITIAL_SCALE, TRAINED_SCALE = 1e-3, 0.5  # scale of a residual branch at initialization, and as after training


@torch.no_grad()
def make_sensitive(backbone: nn.Module, pixels: Tensor) -> None:
    """Change a backbone with random weights in place: scale up its residual branches, and set its batch norms.

    The backbone is in eval mode afterwards. Use it before `deployable`, which folds batch norms into convolutions.

    Args:
        pixels: preprocessed images, float (N, 3, S, S), N >= 2; the batch norms are set from the first 64.
    """
    _scale_up_branches(backbone)
    _set_batch_norms(backbone, pixels)


def _scale_up_branches(backbone: nn.Module) -> None:
    """Scale up residual branches that start at zero, because faults in them would have no effect."""
    for name, scale in backbone.named_parameters():
        is_vector = scale.numel() == max(scale.shape, default=1)
        if is_vector and not name.endswith(("bias", "token")) and scale.abs().max() < INITIAL_SCALE:
            scale.fill_(TRAINED_SCALE)


def _set_batch_norms(backbone: nn.Module, pixels: Tensor) -> None:
    """Set the statistics of the batch norms from real images; otherwise activations vanish or explode.

    Centered outputs make an untrained network chaotic: every layer amplifies differences by up to 1.2 (Yang et al.
    2019, A Mean Field Theory of Batch Normalization). After 60 layers rounding looks like a fault. With shifted
    outputs most values pass the next activation unchanged, and differences do not grow. But where branches are
    added, the shift grows until images differ in the last digits only. The first of a few shifts with harmless
    rounding is therefore used, or else the shift with the least rounding.
    """
    backbone.eval()
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    tried: dict[float, float] = {}
    for shift in SHIFTS:
        rounding = _rounding(_shift(backbone, norms, shift, pixels), pixels)
        if rounding < HARMLESS:
            return
        tried[rounding] = shift
    _shift(backbone, norms, tried[min(tried)], pixels)


def _shift(backbone: nn.Module, norms: Sequence[_BatchNorm], shift: float, pixels: Tensor) -> nn.Module:
    """Set every batch norm to an output of mean `shift` and deviation 1 on 64 images; return `backbone`."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.bias.fill_(shift)
        norm.momentum = 1.0
    backbone.train()(pixels[:64])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return backbone.eval()


def _rounding(backbone: nn.Module, pixels: Tensor) -> float:
    """Return the float32 rounding of the features of 16 images, relative to the differences between images."""
    exact = deepcopy(backbone).double()(pixels[:16].double())
    apart = (exact - exact.mean(dim=0)).abs().max()
    return float((backbone(pixels[:16]) - exact).abs().max() / apart.clamp_min(1e-12))
