"""Describe the machine of a measurement: processor, system and versions, but no names of users or hosts."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from .graphs import runtime_version

BOARD = Path("/proc/device-tree/model")
CPUINFO = Path("/proc/cpuinfo")


def describe_machine(runtimes: Iterable[str]) -> dict[str, str]:
    """Return processor, cores, system, Python and the version of each installed runtime."""
    facts = {
        "cpu": cpu_name(),
        "cores": str(os.cpu_count() or 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for runtime in runtimes:
        try:
            facts[runtime] = runtime_version(runtime)
        except PackageNotFoundError:
            continue
    return facts


def cpu_name() -> str:
    """Return the name of the board (such as Raspberry Pi), or else of the processor."""
    if BOARD.is_file():
        return BOARD.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if platform.system() == "Darwin":
        asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout.strip()
    return platform.processor() or platform.machine()
