"""Hashing of coordinates to bits, the targets of the mimicking loss.

Locality-sensitive hashing after "Distilling Knowledge by Mimicking Features" (arXiv 2011.01424):
frozen Gaussian directions with thresholds at the median over the training set. Every bit is thus 1
for half of the images. Bits are stored packed, eight to a byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Directions are processed in groups, so that the full (N, M) projections are never in memory.
DIRECTIONS_PER_GROUP = 256


@dataclass(frozen=True)
class Hashing:
    """bits = 1[z H + bias > 0]: directions H (k, M) and bias (M,), both float32 and frozen."""

    directions: Tensor
    bias: Tensor

    @property
    def bits(self) -> int:
        """M, the number of bits per image."""
        return int(self.bias.shape[0])

    def logits(self, coordinates: Tensor) -> Tensor:
        """Compute z H + bias, (B, M), for coordinates (B, k)."""
        return coordinates @ self.directions + self.bias


def fit_hashing(coordinates: Tensor, bits: int, generator: torch.Generator) -> Hashing:
    """Draw Gaussian directions for coordinates (N, k), with the threshold of each at its median."""
    directions = torch.randn(coordinates.shape[1], bits, generator=generator)
    medians = [(coordinates @ group).quantile(0.5, dim=0) for group in directions.split(DIRECTIONS_PER_GROUP, dim=1)]
    return Hashing(directions, -torch.cat(medians))


def packed_bits(hashing: Hashing, coordinates: Tensor) -> Tensor:
    """Hash coordinates (N, k) to bits, packed to uint8 (N, ceil(M / 8)), lowest bit first."""
    rows = [pack(hashing.logits(rows) > 0) for rows in coordinates.split(4096)]
    return torch.cat(rows)


def pack(bits: Tensor) -> Tensor:
    """Pack booleans (N, M) into uint8 (N, ceil(M / 8)), lowest bit first."""
    padding = -bits.shape[1] % 8
    padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, padding))
    weights = (1 << torch.arange(8, dtype=torch.uint8)).to(bits.device)
    return (padded.view(bits.shape[0], -1, 8) * weights).sum(dim=2, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Unpack the result of `pack` to float32 zeros and ones (N, bits), ready for a BCE loss."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    unpacked = (packed[:, :, None] >> shifts) & 1
    return unpacked.flatten(1)[:, :bits].to(torch.float32)
