"""Errors that tcs-edge raises on purpose, with their exit codes.

    TcsEdgeError (70)          base class; on its own a bug of tcs-edge
    ├── RequirementMissed (1)  a gate, a parity check or an accuracy floor was missed
    │   ├── ParityFailed       the exported model does not equal the trained one
    │   └── TrainingDiverged   the loss or a weight is no longer finite
    ├── UsageError (2)         a wrong flag, name or combination
    │   ├── SpecError          an unusable target, profile or config file
    │   ├── UnknownName        a name that is in no registry (the message shows near matches)
    │   ├── NoCandidate        constraints that no student meets
    │   └── InUse              a folder or a file that another process writes
    ├── DataError (3)          unusable images or labels
    └── MissingError (4)       an extra, weights, disk space or the network is missing

A message gives the problem, the value and the fix, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_MESSAGE = 2000


class TcsEdgeError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the exit code of the command.

    A message of more than `LONGEST_MESSAGE` characters, as with a name from a file, is cut in its middle.
    """

    exit_code = 70

    def __str__(self) -> str:
        text = super().__str__()
        left_out = len(text) - LONGEST_MESSAGE
        return text if left_out <= 0 else f"{text[:1400]} ... {text[1405 + left_out :]}"  # the fix is at the end


class RequirementMissed(TcsEdgeError):
    """A measured requirement (parity, accuracy, size) is missed."""

    exit_code = 1


class ParityFailed(RequirementMissed):
    """The outputs of an exported or folded model differ from the trained model's."""


class TrainingDiverged(RequirementMissed):
    """Training produced a NaN or Inf; the message names the step."""


class UsageError(TcsEdgeError):
    """An invalid flag, name or combination of them."""

    exit_code = 2


class SpecError(UsageError):
    """A target, profile or config file that is unreadable or violates its schema."""


class UnknownName(UsageError):
    """A name that is in no registry."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        super().__init__(f"unknown {kind} {short(name, 100)}. {advice(name, known)}{' ' + hint if hint else ''}")


class NoCandidate(UsageError):
    """No student meets the constraints; the message names the nearest one."""


class InUse(UsageError):
    """Another process writes the folder or file; the message names it."""


class DataError(TcsEdgeError):
    """Unusable images or labels."""

    exit_code = 3


class MissingError(TcsEdgeError):
    """A missing requirement outside the tool: weights, an extra, disk space, the network."""

    exit_code = 4


def advice(name: str, known: Iterable[str]) -> str:
    """Return the known names most like `name` as a question, or else the known names."""
    known = sorted(known)
    if close := difflib.get_close_matches(name, known, n=3, cutoff=0.5):
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}."


def reason_of(error: BaseException, limit: int = 200) -> str:
    """Return the message of another library's exception as one line of at most `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return cut(text, limit)


def short(value: object, limit: int = 60) -> str:
    """Return the `repr` of a value, cut to `limit` characters."""
    try:
        return cut(repr(value), limit)
    except (ValueError, RecursionError):  # an integer with thousands of digits
        return f"a value of type {type(value).__name__}"


def cut(text: str, limit: int) -> str:
    """Return a text cut to `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
