"""How many threads to compute with.

torch's default of one thread per core spins while it waits: on a machine whose cores are
busy that made training 8 times slower than one thread per free core. So only cores that are
free right now count.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

BUSY_PERCENT = 50.0
SAMPLE_SECONDS = 0.3


def usable_cores() -> int:
    """Cores that this process may run on (affinity and cgroup quota), at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _cgroup_cores() or allowed))


def free_cores() -> int:
    """Usable cores that other processes leave mostly idle at this moment, at least 1."""
    percents = psutil.cpu_percent(interval=SAMPLE_SECONDS, percpu=True)
    busy = sum(percent > BUSY_PERCENT for percent in percents)
    return max(1, min(usable_cores(), len(percents) - busy))


def use_threads(count: int) -> None:
    """Compute with `count` threads from here on, in torch and in what it calls."""
    import torch

    torch.set_num_threads(count)


def _cgroup_cores() -> int | None:
    """The container's CPU quota in whole cores, or None where there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))
