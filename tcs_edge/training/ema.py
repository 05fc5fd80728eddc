"""The moving average of a student's weights over its training steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Exponential moving average of a module's state, batch norms' statistics included.

    Whole numbers and masks (steps counted, coordinates alive) have no average: they are those of the
    last update. Only what a checkpoint holds is copied, so cached targets and teachers are not.

    Args:
        module: on its device, in its memory format; it must not be moved afterwards.
        decay: in (0, 1); early steps use less, see `decay_at`.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.live = module.state_dict()
        self.state = {name: value.clone() for name, value in self.live.items()}
        self._averaged = [name for name, value in self.state.items() if value.is_floating_point()]

    def decay_at(self, step: int) -> float:
        """min(decay, (1 + step) / (10 + step)): a short run must not deploy the weights it began with."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the module's state after `step`, counted from 0."""
        average = get_ema_multi_avg_fn(self.decay_at(step))
        average([self.state[name] for name in self._averaged], [self.live[name] for name in self._averaged], None)
        for name in self.state.keys() - set(self._averaged):
            self.state[name].copy_(self.live[name])

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the average from a checkpoint.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: one has another shape.
        """
        for name, value in self.state.items():
            value.copy_(state[name])

    def keep(self) -> None:
        """Make the average the module's weights, for good."""
        self.module.load_state_dict(self.state)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module with averaged weights for the length of a block."""
        trained = {name: value.clone() for name, value in self.live.items()}
        self.keep()
        try:
            yield
        finally:
            self.module.load_state_dict(trained)
