"""Iterative selection of the coordinates that the task uses, during training.

Every step adds |m_i dL/dm_i| to the score of coordinate i (first-order Taylor importance of the
mask m). Each pruning step removes the coordinates with the lowest scores permanently. The number kept
follows a cubic ramp (Zhu & Gupta 2017, arXiv 1710.01878, eq. 1), steep at first and flat at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SelectionSchedule:
    """Schedule of the pruning, in fractions of the training steps, and number of coordinates kept.

    Attributes:
        start, end: first and last pruning, 0 <= start < end <= 1.
        kept_fraction: fraction of the k coordinates left after `end`, in (0, 1]; 1 prunes nothing.
        rounds: number of pruning rounds between start and end.
        by: "importance" removes the coordinates with the lowest importance. "variance" is the
            ablation: it removes the axes with the smallest eigenvalues, regardless of the task.
    """

    start: float = 0.1
    end: float = 0.6
    kept_fraction: float = 0.5
    rounds: int = 20
    by: Literal["importance", "variance"] = "importance"

    def after(self, mimic_warmup: float) -> SelectionSchedule:
        """Return this schedule moved behind the first `mimic_warmup` of all steps, a fraction in [0, 1)."""
        start, end = (mimic_warmup + (1 - mimic_warmup) * share for share in (self.start, self.end))
        return replace(self, start=start, end=end)

    def kept(self, dims: int, progress: float) -> int:
        """Number of the `dims` coordinates that are kept at `progress` in [0, 1]."""
        final = max(1, round(dims * self.kept_fraction))
        ramp = min(1.0, max(0.0, (progress - self.start) / (self.end - self.start)))
        ramp = int(ramp * self.rounds) / self.rounds
        return final + round((dims - final) * (1 - ramp) ** 3)


@dataclass(frozen=True)
class Pruning:
    """One pruning round: its step, the coordinates removed, and all scores at that step."""

    step: int
    removed: tuple[int, ...]
    scores: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return {"step": self.step, "removed": list(self.removed), "scores": list(self.scores)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Pruning:
        return cls(document["step"], tuple(document["removed"]), tuple(document["scores"]))


class FeatureSelection(nn.Module):
    """Trainable mask m (k,) with the coordinates that are still kept.

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
        """Mask m (k,) with removed coordinates at exactly zero."""
        return self.weight * self.alive

    @torch.no_grad()
    def after_backward(self, step: int, total_steps: int) -> None:
        """Add this step's importance, and prune when the schedule keeps fewer coordinates."""
        if self.weight.grad is not None:
            self.scores += (self.weight * self.weight.grad).abs()
        # Counted on the host: reading `alive` would make a GPU wait at every step.
        kept = len(self.alive) - sum(len(pruning.removed) for pruning in self.history)
        excess = kept - self.schedule.kept(len(self.alive), step / total_steps)
        if excess > 0:
            self._remove(excess, step)

    def _merit(self) -> Tensor:
        """Ranking scores (k,); the coordinates with the lowest values are removed first."""
        if self.schedule.by == "importance":
            return self.scores
        return -torch.arange(len(self.scores), device=self.scores.device, dtype=torch.float32)

    def _remove(self, count: int, step: int) -> None:
        ranked = self._merit().masked_fill(~self.alive, torch.inf).argsort(stable=True)
        removed: Sequence[int] = sorted(ranked[:count].tolist())
        self.history.append(Pruning(step, tuple(removed), tuple(self.scores.tolist())))
        self.alive[list(removed)] = False
        self.scores.zero_()
