"""Message for a target that no student fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcs_edge.latency.device import Latency
from tcs_edge.specs.target import Limits

if TYPE_CHECKING:
    from tcs_edge.students.choice import Assessment


def nothing_fits(target: str, rejected: tuple[Assessment, ...], limits: Limits) -> str:
    """Name the limit that no candidate meets, with the nearest candidate and by how much it misses."""
    head = f"no student fits {target}: "
    if limits.max_latency_ms:
        timed = [(a.latency, a.label) for a in rejected if a.latency]
        if not timed:
            return head + "no candidate's latency is known here. Pass --student NAME without a latency limit."
        found, name = min(timed, key=lambda pair: pair[0].high_ms)
        if found.high_ms > limits.max_latency_ms:
            return head + _too_slow(name, found, limits.max_latency_ms)
    smallest = min(rejected, key=lambda a: a.largest_mb)
    if limits.max_size_mb and smallest.largest_mb > limits.max_size_mb:
        return (
            f"{head}the smallest, {smallest.label}, takes {smallest.largest_mb:.2f} MB of {limits.max_size_mb:g} MB "
            f"(largest model file, {smallest.precision} in ONNX or OpenVINO). Raise --max-size-mb."
        )
    nearest = min(rejected, key=lambda a: (len(a.misses), a.size_mb))
    return f"{head}the nearest is ruled out ({'; '.join(nearest.reasons)}). Loosen that limit."


def _too_slow(name: str, found: Latency, max_latency_ms: float) -> str:
    return f"the fastest, {name}, takes {found} of {max_latency_ms:g} ms. Raise --max-latency-ms or lower --img-size."
