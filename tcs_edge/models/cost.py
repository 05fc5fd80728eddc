"""Cost of a network: parameters and multiply-accumulates."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_params_m(model: nn.Module) -> float:
    """Millions of parameters."""
    count: int = sum(parameter.numel() for parameter in model.parameters())
    return count / 1e6


def count_macs_m(model: nn.Module, img_size: int) -> float:
    """Millions of multiply-accumulates for one image of img_size x img_size pixels, by one forward pass."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, img_size, img_size, device=device))
    # The counter reports two floating-point operations per multiply-accumulate.
    return float(counter.get_total_flops() / 2 / 1e6)
