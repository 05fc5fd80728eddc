"""Run converters and probes of a runtime, which may crash or hang, as programs of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def run_program(command: Sequence[str], seconds: float, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program without input, and return its exit code and output.

    Args:
        folder: its working directory; None keeps the present one.

    Raises:
        subprocess.TimeoutExpired: it took more than `seconds`, and was killed.
        OSError: it cannot be started.
    """
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        timeout=seconds, check=False,
    )  # fmt: skip


def failure_of(done: subprocess.CompletedProcess[str], silent: str = "it ended with code {}") -> str:
    """Return the reason why a program failed: a signal, or the last line on stderr.

    Args:
        silent: reason if nothing is on stderr, with a place for the exit code.
    """
    if done.returncode < 0:
        return f"it crashed (signal {-done.returncode})"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:200] if lines else silent.format(done.returncode)


def instead_of(format: str) -> str:
    """Return the last sentence of an error about a student that a format on request cannot hold."""
    return f"Leave --format {format} out, or choose another --student."
