"""Wall time and peak memory of every stage of a run."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class StageCost:
    """Cost of one stage: wall time in seconds, and the process's peak resident memory in 10^6 bytes."""

    name: str
    seconds: float
    peak_memory_mb: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Stopwatch:
    """Timer of consecutive named stages; `stages` holds the finished ones."""

    stages: list[StageCost] = field(default_factory=list)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block as stage `name`; a block that raises is not recorded."""
        started = time.perf_counter()
        with _peak_memory() as peak:
            yield
        seconds = time.perf_counter() - started
        self.stages.append(StageCost(name, round(seconds, 3), round(peak[0] / 1e6, 1)))


@contextlib.contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """Yield a one-element list with the largest resident size in bytes during the block."""
    process = psutil.Process()
    peak = [_resident_bytes(process)]
    finished = threading.Event()

    def sample() -> None:
        while not finished.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], _resident_bytes(process))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        finished.set()
        sampler.join()
        peak[0] = max(peak[0], _resident_bytes(process))


def _resident_bytes(process: psutil.Process) -> int:
    """Return the resident size, or 0 if it cannot be read, such as without a free file handle."""
    try:
        return int(process.memory_info().rss)
    except (OSError, psutil.Error):
        return 0
