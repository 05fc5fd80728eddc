"""Pareto front of students: accuracy, latency and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ParetoPoint:
    """Expected accuracy in percent, median latency in ms, and size in 10^6 bytes of one student."""

    percent: float
    latency_ms: float
    size_mb: float

    def beats(self, other: ParetoPoint) -> bool:
        """Return True if this point is at least as good as `other` in all three numbers, and better in one."""
        pairs = (
            (self.percent, other.percent),
            (-self.latency_ms, -other.latency_ms),
            (-self.size_mb, -other.size_mb),
        )
        return all(own >= its for own, its in pairs) and any(own > its for own, its in pairs)


def on_pareto_front(points: Sequence[ParetoPoint | None]) -> list[bool]:
    """Return True for each student on the Pareto front; a point that is None (unknown) is never on it."""
    known = [pareto_point for pareto_point in points if pareto_point]
    return [
        pareto_point is not None and not any(other.beats(pareto_point) for other in known) for pareto_point in points
    ]
