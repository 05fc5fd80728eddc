"""The students that no other one beats: the Pareto front of accuracy, latency and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Merit:
    """What a student is judged by: expected accuracy in percent, median latency in ms, size in 10^6 bytes."""

    percent: float
    latency_ms: float
    size_mb: float

    def beats(self, other: Merit) -> bool:
        """Nowhere worse and somewhere better."""
        pairs = (
            (self.percent, other.percent),
            (-self.latency_ms, -other.latency_ms),
            (-self.size_mb, -other.size_mb),
        )
        return all(own >= its for own, its in pairs) and any(own > its for own, its in pairs)


def on_front(merits: Sequence[Merit | None]) -> list[bool]:
    """For each student whether it is on the front; one of which something is unknown (None) never is."""
    known = [merit for merit in merits if merit]
    return [merit is not None and not any(other.beats(merit) for other in known) for merit in merits]
