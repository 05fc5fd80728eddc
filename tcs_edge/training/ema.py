"""Exponential moving average of a student's weights over the training steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Exponential moving average of a module's state, including the statistics of batch norms.

    Integers and masks (step counts, kept coordinates) are not averaged but copied from the last update.
    Only the module's state dict is copied, without cached targets and teachers.

    Args:
        module: module on its device, in its memory format; do not move it afterwards.
        decay: decay in (0, 1); early steps use a smaller one, see `decay_at`.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.live = module.state_dict()
        self.state = {name: value.clone() for name, value in self.live.items()}
        self._averaged = [name for name, value in self.state.items() if value.is_floating_point()]

    def decay_at(self, step: int) -> float:
        """Decay min(decay, (1 + step) / (10 + step)), so that the initial weights fade even in a short run."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the module's state after `step`, counted from 0, to the average."""
        average = get_ema_multi_avg_fn(self.decay_at(step))
        average([self.state[name] for name in self._averaged], [self.live[name] for name in self._averaged], None)
        for name in self.state.keys() - set(self._averaged):
            self.state[name].copy_(self.live[name])

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load the average from a checkpoint.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: a tensor has another shape.
        """
        for name, value in self.state.items():
            value.copy_(state[name])

    def keep(self) -> None:
        """Replace the module's weights by the average, permanently."""
        self.module.load_state_dict(self.state)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Use the averaged weights in the module for the duration of a block."""
        trained = {name: value.clone() for name, value in self.live.items()}
        self.keep()
        try:
            yield
        finally:
            self.module.load_state_dict(trained)
