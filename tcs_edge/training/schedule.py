"""Schedule of a training run: epochs, batch size and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Training schedule, the same for every method in a comparison.

    Attributes:
        epochs: passes over the training images, >= 1.
        batch_size: images per step, >= 2.
        lr: peak learning rate of AdamW.
        weight_decay: weight decay of matrices and kernels; biases, norms and masks have none.
        warmup_fraction: fraction of all steps with a linearly rising learning rate, in [0, 1).
        grad_clip: largest global gradient norm.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.05
    warmup_fraction: float = 0.05
    grad_clip: float = 5.0

    def lr_at(self, step: int, total_steps: int) -> float:
        """Learning rate at `step`: linear warm-up, then a cosine to zero (arXiv 1608.03983) at `total_steps`."""
        warmup = max(1, round(self.warmup_fraction * total_steps))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        progress = (step - warmup) / max(1, total_steps - warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * progress))
