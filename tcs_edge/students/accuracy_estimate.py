"""What accuracy a student may be expected to reach, before any is trained.

A way to say so is a function of the candidate; `choice` takes any. `by_table` needs nothing; ways that look at the
user's images give their own `AccuracyEstimate`, and the choice, its record and its drawing stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tcs_edge.models.candidates import Candidate
from tcs_edge.specs.config import SearchName


@dataclass(frozen=True)
class AccuracyEstimate:
    """An accuracy in percent, found by which search, and in words where it comes from.

    `depth` counts how thoroughly the candidate was looked at; figures of another depth are another scale, so the
    deeper one ranks first.
    """

    percent: float
    search: SearchName
    how: str
    depth: int = 0

    def to_json(self) -> dict[str, Any]:
        """What a record keeps of it."""
        return {"percent": self.percent, "search": self.search, "how": self.how}


Expectation = Callable[[Candidate], AccuracyEstimate | None]

RANKING: dict[SearchName, str] = {
    "table": "highest published ImageNet top-1 of the architecture, then lowest latency",
    "alignment": "pretrained features nearest to the teacher's coordinates and the labels, then lowest latency",
    "halving": "validation accuracy of the short runs that got furthest, then lowest latency",
}


def by_table(candidate: Candidate) -> AccuracyEstimate | None:
    """The published ImageNet top-1 of the candidate's weights: it ranks architectures, it is no promise."""
    if candidate.top1 is None:
        return None
    how = f"published ImageNet-1k top-1 of {candidate.weights} at {candidate.top1_img_size} px"
    return AccuracyEstimate(candidate.top1, "table", how)
