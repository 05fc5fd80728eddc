"""Number of threads for computation.

torch uses one thread per core by default, and its threads spin while they wait. On a machine with
busy cores, training was 8 times slower than with one thread per free core. So only cores that are
free at this moment count.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

BUSY_PERCENT = 50.0
SAMPLE_SECONDS = 0.3


def usable_cores() -> int:
    """Number of cores that this process may use (affinity and cgroup quota), at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _cgroup_cores() or allowed))


def free_cores() -> int:
    """Number of usable cores that are mostly idle at this moment, at least 1."""
    percents = psutil.cpu_percent(interval=SAMPLE_SECONDS, percpu=True)
    busy: int = sum(percent > BUSY_PERCENT for percent in percents)
    return max(1, min(usable_cores(), len(percents) - busy))


def use_threads(count: int) -> None:
    """Use `count` threads from here on, in torch and the libraries that it calls."""
    import torch

    torch.set_num_threads(count)


def _cgroup_cores() -> int | None:
    """Read the container's CPU quota in whole cores; None if there is no quota."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))
