"""Time single runs after a warm-up, on pinned cores, without runs that another process interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows does not count interruptions
    resource = None  # type: ignore[assignment]

WARMUP_RUNS = 5
MIN_RUNS, MAX_RUNS = 10, 200


def time_runs(run: Callable[[], Any], seconds: float) -> list[float]:
    """Time single runs in ms for `seconds`, at least 10 and at most 200 runs."""
    for _ in range(WARMUP_RUNS):
        run()
    samples: list[tuple[int, float]] = []
    stop = time.perf_counter() + seconds
    while len(samples) < MIN_RUNS or (time.perf_counter() < stop and len(samples) < MAX_RUNS):
        interruptions, started = _interruptions(), time.perf_counter()
        run()
        elapsed_ms = (time.perf_counter() - started) * 1e3
        samples.append((_interruptions() - interruptions, elapsed_ms))
    return undisturbed(samples)


def undisturbed(samples: list[tuple[int, float]]) -> list[float]:
    """Return the ms of uninterrupted (interruptions, ms) runs, or of the least interrupted third if those are few."""
    clean = [ms for interruptions, ms in samples if interruptions == 0]
    if len(clean) >= len(samples) // 3:
        return clean
    kept = sorted(range(len(samples)), key=lambda index: samples[index])[: len(samples) // 3]
    return [samples[index][1] for index in sorted(kept)]


def _interruptions() -> int:
    """Return the number of involuntary context switches of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0


def seconds_waited(tasks: Path = Path("/proc/self/task")) -> float:
    """Return the seconds that this process's threads waited for a core so far; 0 if the system does not report it."""
    waited_ns = 0
    for record in tasks.glob("*/schedstat"):
        try:
            waited_ns += int(record.read_text(encoding="ascii").split()[1])
        except OSError:  # the thread has just ended
            continue
    return waited_ns / 1e9


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Keep this process, and the threads started inside the block, on the `threads` fastest cores.

    Systems without affinity (macOS, Windows) pin nothing.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, fastest_cores(sorted(before), threads))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def fastest_cores(cores: list[int], count: int, root: Path = Path("/sys/devices/system/cpu")) -> set[int]:
    """Return the `count` of `cores` with the highest clock, such as the large cores of a phone."""
    return set(sorted(cores, key=lambda core: (-_max_khz(root, core), core))[:count])


def _max_khz(root: Path, core: int) -> int:
    try:
        return int((root / f"cpu{core}" / "cpufreq" / "cpuinfo_max_freq").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
