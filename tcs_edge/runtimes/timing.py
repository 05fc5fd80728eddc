"""Time calls: with warm-up and repetitions, interleaved with the calls they are compared with.

Results are percentiles, because one interrupted call in a hundred changes a mean but not the median. The caller
chooses the number of threads when it opens a runner, and records it with the results.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

FEWEST_RUNS = 2
Clock = Callable[[], float]


@dataclass(frozen=True)
class LatencySample:
    """Percentiles of the wall time of one call over `runs` timed calls, and all of these, in milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int
    calls_ms: tuple[float, ...] = ()

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return the percentiles of measured times, with linear interpolation as in numpy.

        Raises:
            ValueError: fewer than two times.
        """
        cuts = [1000 * cut for cut in statistics.quantiles(seconds, n=100, method="inclusive")]
        return cls(cuts[49], cuts[89], cuts[98], len(seconds), tuple(1000 * each for each in seconds))

    def to_json(self) -> dict[str, Any]:
        """Return the percentiles and the number of calls as JSON values."""
        fields = asdict(self)
        del fields["calls_ms"]
        return fields


def time_runner(
    run: Callable[[], object], warmup: int, repeats: int, clock: Clock = time.perf_counter
) -> LatencySample:
    """Time `repeats` calls of `run` after `warmup` untimed calls.

    Args:
        repeats: at least 2.
        clock: a monotonic clock in seconds.

    Raises:
        ValueError: too few repeats, or a negative warm-up.
    """
    return time_interleaved({"": run}, warmup, repeats, clock=clock)[""]


def time_interleaved(
    runs: Mapping[str, Callable[[], object]],
    warmup: int,
    repeats: int,
    block: int = 10,
    clock: Clock = time.perf_counter,
) -> dict[str, LatencySample]:
    """Time several calls in turns of `block`, so that a busy or hot minute affects all of them alike.

    A turn starts with one untimed call, which loads weights and code into the caches again.

    Raises:
        ValueError: too few repeats, a negative warm-up, or an empty turn.
    """
    if repeats < FEWEST_RUNS or warmup < 0 or block < 1:
        raise ValueError(f"need repeats >= {FEWEST_RUNS}, warmup >= 0, block >= 1; got {repeats}, {warmup}, {block}")
    for run in runs.values():
        for _ in range(warmup):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for done in range(0, repeats, block):
        for name, run in runs.items():
            run()
            seconds[name] += [_seconds(run, clock) for _ in range(min(block, repeats - done))]
    return {name: LatencySample.of(times) for name, times in seconds.items()}


def _seconds(run: Callable[[], object], clock: Clock) -> float:
    started = clock()
    run()
    return clock() - started
