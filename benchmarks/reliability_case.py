"""A row of the table, and what several rows share."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reliability_lab import Lab, Result


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        tries: return the names of all tries; it may run the job undisturbed to count its events.
        attempt: disturb the job once; return the verdict.
        needs: return the reason why this system cannot run the case, or None.
    """

    name: str
    tries: Callable[[Lab], list[str]]
    attempt: Callable[[Lab, str], Result]
    needs: Callable[[], str | None] = lambda: None


def moment(case: str, number: str, seconds: float) -> float:
    """Return a moment of the try, uniform over a duration in seconds, the same in every measurement."""
    return random.Random(f"{case} {number}").uniform(0, seconds)


def counted(count: int) -> Callable[[Lab], list[str]]:
    return lambda lab: [str(number) for number in range(1, count + 1)]


def needs_mounts() -> str | None:
    return None if os.geteuid() == 0 and Path("/proc/self/ns/mnt").exists() else "needs root, to mount file systems"
