"""Every error tcs-edge raises on purpose, and the exit code each one ends the command with.

    TcsEdgeError (70)          our bug, unless a subclass says otherwise
    ├── RequirementMissed (1)      a gate, a parity check or an accuracy floor was missed
    │   ├── ParityFailed       the exported model does not equal the trained one
    │   └── TrainingDiverged   the loss or a weight stopped being finite
    ├── UsageError (2)         a wrong flag, name or combination
    │   ├── SpecError          a target, profile or config file that cannot be used
    │   ├── UnknownName        a name that is in no registry (near matches are shown)
    │   └── NoCandidate        constraints that no student meets
    ├── DataError (3)          images or labels that cannot be used
    └── MissingError (4)       an extra, weights, disk space or the network is not there

A message says what is wrong, what came, and what to do, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TcsEdgeError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command ends with."""

    exit_code = 70


class RequirementMissed(TcsEdgeError):
    """Something the tool promises (parity, accuracy, size) was measured and missed."""

    exit_code = 1


class ParityFailed(RequirementMissed):
    """An exported or folded model does not compute what the trained model computes."""


class TrainingDiverged(RequirementMissed):
    """Training reached a NaN or Inf; the message names the step."""


class UsageError(TcsEdgeError):
    """A flag, a name or a combination of them that makes no sense."""

    exit_code = 2


class SpecError(UsageError):
    """A target, profile or config file that cannot be read or breaks its schema."""


class UnknownName(UsageError):
    """A name that no registry holds."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        super().__init__(f"unknown {kind} {name!r}. {advice(name, known)}{' ' + hint if hint else ''}")


class NoCandidate(UsageError):
    """No student meets the constraints; the message shows the nearest one."""


class DataError(TcsEdgeError):
    """Images or labels that cannot be used."""

    exit_code = 3


class MissingError(TcsEdgeError):
    """Something outside the tool is missing: weights, an extra, disk space, the network."""

    exit_code = 4


def advice(name: str, known: Iterable[str]) -> str:
    """Return the known names most like `name` as a question, or else the known names."""
    known = sorted(known)
    if close := difflib.get_close_matches(name, known, n=3, cutoff=0.5):
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}."


def reason_of(error: BaseException, limit: int = 200) -> str:
    """What a foreign exception says, on one line of at most `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
