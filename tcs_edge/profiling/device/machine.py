"""What measured figures depend on: the processor, the system, the versions. Nothing that names a person or a host."""

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
    """Processor, cores, system, Python and the version of each runtime that is installed."""
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
    """The board's name where it has one (Raspberry Pi and kin), else the processor's."""
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
