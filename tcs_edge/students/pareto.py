"""The students that no other one beats: the Pareto front of accuracy, latency and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ParetoPoint:
    """What a student is judged by: expected accuracy in percent, median latency in ms, size in 10^6 bytes."""

    percent: float
    latency_ms: float
    size_mb: float

    def beats(self, other: ParetoPoint) -> bool:
        """Nowhere worse and somewhere better."""
        pairs = (
            (self.percent, other.percent),
            (-self.latency_ms, -other.latency_ms),
            (-self.size_mb, -other.size_mb),
        )
        return all(own >= its for own, its in pairs) and any(own > its for own, its in pairs)


def on_pareto_front(points: Sequence[ParetoPoint | None]) -> list[bool]:
    """For each student whether it is on the front; one of which something is unknown (None) never is."""
    known = [pareto_point for pareto_point in points if pareto_point]
    return [
        pareto_point is not None and not any(other.beats(pareto_point) for other in known) for pareto_point in points
    ]
