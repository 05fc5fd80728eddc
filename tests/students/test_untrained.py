"""Random weights: batch norms with little rounding, and outputs that depend on the image."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from tcs_edge.students import untrained
from tcs_edge.students.build import build_student
from tcs_edge.students.untrained import SHIFTS, _rounding, _set_batch_norms, _shift, make_sensitive


class Branches(nn.Module):
    """Sums of normalized branches, forty times, like repvgg before its branches are merged."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(40))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2)) for _ in range(40))

    def forward(self, images: Tensor) -> Tensor:
        out = nn.functional.pad(images, (0, 0, 0, 0, 0, 5))
        for conv, (norm, own) in zip(self.convs, self.norms, strict=True):
            out = torch.relu(norm(conv(out)) + own(out))
        return out.mean(dim=(2, 3))


@torch.no_grad()
def test_batch_norms_get_the_shift_with_the_least_rounding(monkeypatch):
    torch.manual_seed(0)
    network, pixels = Branches(), torch.rand(64, 3, 8, 8)
    norms = [norm for pair in network.norms for norm in pair]
    by_shift = {shift: _rounding(_shift(network, norms, shift, pixels), pixels) for shift in SHIFTS}
    monkeypatch.setattr(untrained, "HARMLESS", 0.0)
    _set_batch_norms(network, pixels)
    assert _rounding(network, pixels) == min(by_shift.values())
    monkeypatch.setattr(untrained, "HARMLESS", by_shift[1.0] * 2)
    _set_batch_norms(network, pixels)
    assert _rounding(network, pixels) == by_shift[1.0]
    assert min(by_shift.values()) < by_shift[1.0] / 2
    assert not network.training
    assert {norm.momentum for norm in norms} == {0.1}


@torch.no_grad()
def test_residual_branches_that_start_near_zero_change_the_features():
    pixels = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 3, 64, 64)).astype(np.float32))
    network = build_student("swiftformer_xs", 64, "random", 0)
    assert share_of_branches(network, pixels) < 0.02
    make_sensitive(network, pixels)
    assert share_of_branches(network, pixels) > 0.1


def share_of_branches(network: nn.Module, pixels: Tensor) -> float:
    """Return the largest change of the features without the scaled branches, relative to the features."""
    without = copy.deepcopy(network).eval()
    for name, scale in without.named_parameters():
        if "layer_scale" in name:
            scale.zero_()
    features = network.eval()(pixels)
    return float((without(pixels) - features).abs().max() / features.abs().max())
