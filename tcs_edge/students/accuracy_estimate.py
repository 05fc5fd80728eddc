"""Estimates of a student's accuracy before training.

An estimator is a function of the candidate, and `choice` accepts any. `by_table` needs no images. Estimators that use
the user's images return an `AccuracyEstimate` too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tcs_edge.models.candidates import Candidate
from tcs_edge.specs.options import SearchName


@dataclass(frozen=True)
class AccuracyEstimate:
    """An accuracy in percent, the search that found it, and its derivation in words (`how`).

    `depth` is the depth of the search for this candidate. Figures of different depths are not comparable, so the
    deeper one ranks first.
    """

    percent: float
    search: SearchName
    how: str
    depth: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields for a record."""
        return {"percent": self.percent, "search": self.search, "how": self.how}


Expectation = Callable[[Candidate], AccuracyEstimate | None]

RANKING: dict[SearchName, str] = {
    "table": "highest published ImageNet top-1 of the architecture, then lowest latency",
    "alignment": "pretrained features nearest to the teacher's coordinates and the labels, then lowest latency",
    "halving": "validation accuracy of the short runs that got furthest, then lowest latency",
}


def by_table(candidate: Candidate) -> AccuracyEstimate | None:
    """Return the published ImageNet top-1 of the candidate's weights, which only ranks architectures."""
    if candidate.top1 is None:
        return None
    how = f"published ImageNet-1k top-1 of {candidate.weights} at {candidate.top1_img_size} px"
    return AccuracyEstimate(candidate.top1, "table", how)
