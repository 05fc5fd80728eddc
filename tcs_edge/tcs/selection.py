"""Iterative feature selection: which coordinates the task uses, found while training.

Every step adds |m_i dL/dm_i| to coordinate i's score (first-order Taylor importance of the
mask m); at each pruning step the lowest scores leave for good. The number kept falls on a
cubic ramp (Zhu & Gupta 2017, arXiv 1710.01878, eq. 1), fast at first and gentle at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SelectionSchedule:
    """When coordinates leave, as shares of the training steps, and how many stay.

    Attributes:
        start, end: first and last pruning, 0 <= start < end <= 1.
        kept_fraction: share of the k coordinates left after `end`, in (0, 1]; 1 prunes nothing.
        rounds: number of pruning rounds between start and end.
        by: "importance" removes what the task uses least; "variance" is the ablation: it removes the
            last axes, those of the smallest eigenvalues, whatever the task uses.
    """

    start: float = 0.1
    end: float = 0.6
    kept_fraction: float = 0.5
    rounds: int = 20
    by: Literal["importance", "variance"] = "importance"

    def after(self, mimic_warmup: float) -> SelectionSchedule:
        """This schedule in the steps that follow the first `mimic_warmup` of all, a share in [0, 1)."""
        start, end = (mimic_warmup + (1 - mimic_warmup) * share for share in (self.start, self.end))
        return replace(self, start=start, end=end)

    def kept(self, dims: int, progress: float) -> int:
        """How many of `dims` coordinates stay at `progress` in [0, 1]."""
        final = max(1, round(dims * self.kept_fraction))
        ramp = min(1.0, max(0.0, (progress - self.start) / (self.end - self.start)))
        ramp = int(ramp * self.rounds) / self.rounds
        return final + round((dims - final) * (1 - ramp) ** 3)


@dataclass(frozen=True)
class Pruning:
    """One round: the step it happened at, the coordinates removed, and every score then."""

    step: int
    removed: tuple[int, ...]
    scores: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return {"step": self.step, "removed": list(self.removed), "scores": list(self.scores)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Pruning:
        return cls(document["step"], tuple(document["removed"]), tuple(document["scores"]))


class FeatureSelection(nn.Module):
    """The trainable mask m (k,) and the coordinates still alive.

    `alive` and `scores` are buffers, so a checkpoint of the module resumes the selection.
    """

    alive: Tensor
    scores: Tensor

    def __init__(self, dims: int, schedule: SelectionSchedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.weight = nn.Parameter(torch.ones(dims))
        self.register_buffer("alive", torch.ones(dims, dtype=torch.bool))
        self.register_buffer("scores", torch.zeros(dims))
        self.history: list[Pruning] = []

    def mask(self) -> Tensor:
        """m with removed coordinates at exactly zero, (k,)."""
        return self.weight * self.alive

    @torch.no_grad()
    def after_backward(self, step: int, total_steps: int) -> None:
        """Add this step's importance; prune when the schedule asks for fewer coordinates."""
        if self.weight.grad is not None:
            self.scores += (self.weight * self.weight.grad).abs()
        excess = int(self.alive.sum()) - self.schedule.kept(len(self.alive), step / total_steps)
        if excess > 0:
            self._remove(excess, step)

    def _merit(self) -> Tensor:
        """What the lowest of leave first, (k,)."""
        if self.schedule.by == "importance":
            return self.scores
        return -torch.arange(len(self.scores), device=self.scores.device, dtype=torch.float32)

    def _remove(self, count: int, step: int) -> None:
        ranked = self._merit().masked_fill(~self.alive, torch.inf).argsort(stable=True)
        removed: Sequence[int] = sorted(ranked[:count].tolist())
        self.history.append(Pruning(step, tuple(removed), tuple(self.scores.tolist())))
        self.alive[list(removed)] = False
        self.scores.zero_()
