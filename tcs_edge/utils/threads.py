"""Number of threads for computation.

torch uses one thread per core by default, and its threads spin while they wait. On a machine with
busy cores, training was 8 times slower than with one thread per free core. So only cores that are
free at this moment count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

BUSY_PERCENT = 50.0
SAMPLE_SECONDS = 0.3
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Number of cores that this process may use (affinity and cgroup quota), at least 1."""
    return max(1, min([_allowed_cores(), *_cgroup_cores()]))


def free_cores() -> int:
    """Number of usable cores that are mostly idle at this moment, at least 1."""
    percents = psutil.cpu_percent(interval=SAMPLE_SECONDS, percpu=True)
    busy: int = sum(percent > BUSY_PERCENT for percent in percents)
    return max(1, min(usable_cores(), len(percents) - busy))


def use_threads(count: int) -> None:
    """Use `count` threads from here on, in torch and the libraries that it calls."""
    import torch

    torch.set_num_threads(count)


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # Windows
        return len(process.cpu_affinity())
    return os.cpu_count() or 1


def _cgroup_cores() -> Iterator[int]:
    """Read the CPU quotas of this process's control groups, in whole cores."""
    for folder in _cgroup_folders():
        for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
            quota = " ".join(_text(folder / name) for name in files).split()
            if len(quota) == 2 and all(word.isdigit() for word in quota) and int(quota[1]):
                yield max(1, int(quota[0]) // int(quota[1]))


def _cgroup_folders() -> Iterator[Path]:
    """Folders of version 2 and 1: of this process's group, of the groups around it, and of a container's root."""
    yield from (CGROUPS, CGROUPS / "cpu")
    for line in _text(OWN_CGROUPS).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers or "cpu" in controllers.split(","):
            root = CGROUPS / "cpu" if controllers else CGROUPS
            own = root / group.strip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _text(path: Path) -> str:
    """Return the content of a file; nothing if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
