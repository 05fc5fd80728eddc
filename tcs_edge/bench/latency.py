"""How fast the deployed model answers on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

WARM_UP = 20
MIN_RUNS = 50
MIN_SECONDS = 0.5


def median_ms(run: Callable[[], object]) -> float:
    """Median wall time of `run` in milliseconds, after `WARM_UP` calls that do not count."""
    for _ in range(WARM_UP):
        run()
    seconds: list[float] = []
    while len(seconds) < MIN_RUNS or sum(seconds) < MIN_SECONDS:
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)
