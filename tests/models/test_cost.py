"""Tests of parameters and multiply-accumulates against a manual count."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tcs_edge.models.cost import count_macs_m, count_params_m


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_costs_equal_the_manual_count(device: str) -> None:
    with torch.device(device):
        model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 5))
    assert count_params_m(model) == pytest.approx((8 * 3 * 9 + 8 + 5 * 288 + 5) / 1e6)
    assert count_macs_m(model, 6) == pytest.approx((6 * 6 * 8 * 3 * 9 + 5 * 288) / 1e6)
