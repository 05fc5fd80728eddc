"""Mixup of the images of a step, drawn from seed, epoch and step, so that a resumed run draws the same."""

from __future__ import annotations

import numpy as np
import torch

from tcs_edge.methods import Mix
from tcs_edge.methods.rows import to_device

# Fourth number of the seed. It is not zero, since numpy treats [a, b, c, 0] like [a, b, c], the seed of the loader.
MIXING_STREAM = 1


def draw_mix(images: int, alpha: float, seed: int, epoch: int, step: int, device: torch.device) -> Mix:
    """Draw partners for a batch of `images`, and one share from Beta(alpha, alpha) (arXiv 1710.09412, section 2).

    Args:
        alpha: > 0; 0.2 leaves most batches almost unmixed, 1 draws the share uniformly.
    """
    rng = np.random.default_rng([seed, epoch, step, MIXING_STREAM])
    share = torch.tensor(rng.beta(alpha, alpha), dtype=torch.float32)
    return Mix(to_device(torch.from_numpy(rng.permutation(images)), device), to_device(share, device))
