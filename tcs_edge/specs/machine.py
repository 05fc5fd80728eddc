"""Machine of a measurement, and the architecture that a target requires of it.

A latency counts for a target only if both have the same architecture. Systems name one architecture differently:
`uname -m` is aarch64 on Linux, arm64 on macOS and ARM64 on Windows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# armv8l is a 64-bit processor that runs a 32-bit process.
FAMILIES = {
    "64-bit Arm": re.compile(r"aarch64|arm64(e|ec|-v8a)?|armv[89](l|a|[.][0-9]-a)?"),
    "32-bit Arm": re.compile(r"arm|armhf|armel|armeabi.*|armv[2-7].*"),
    "x86-64": re.compile(r"x86[_-]64|amd64|x64"),
    "32-bit x86": re.compile(r"x86|x86_32|ia-?32|i[3-6]86(pc)?"),
}
LONGEST_NAME = 100
# The generation of a Raspberry Pi; 400 and 500 are boards of the generations 4 and 5.
RASPBERRY_PI = re.compile(r"Raspberry Pi (?:Compute Module )?(Zero 2|\d)")


@dataclass(frozen=True)
class RecordedMachine:
    """Device (board or processor) and architecture of a measurement, as recorded; None if not recorded."""

    device: str | None = None
    architecture: str | None = None

    def __str__(self) -> str:
        device = self.device or "an unnamed device"
        return f"{device} ({self.architecture})" if self.architecture else device


def recorded_machine(facts: Mapping[str, object]) -> RecordedMachine:
    """Return the machine that a self-check or a profile recorded.

    A self-check has `device` and `architecture`. A profile has `cpu`, and `system` such as "Linux aarch64".
    """
    system = (_text(facts.get("system")) or "").split()
    named = _text(facts.get("architecture")) or (system[1] if len(system) == 2 else None)
    return RecordedMachine(_text(facts.get("device")) or _text(facts.get("cpu")), named)


def architecture(name: str) -> str:
    """Return the architecture that `name` stands for; an unknown name in lower case stands for itself."""
    low = name.strip().lower()
    return next((family for family, pattern in FAMILIES.items() if pattern.fullmatch(low)), low)


def architecture_of_isa(isa: str) -> str:
    """Return the architecture of a target's instruction set, such as "64-bit Arm" for armv8.2-a."""
    return "x86-64" if isa.startswith("x86-64") else architecture(isa)


def not_of_target(machine: RecordedMachine, isa: str | None) -> str:
    """Return the reason why a measurement on `machine` does not count for a target; empty if it counts.

    Without a recorded architecture of either, it does not count.
    """
    if machine.architecture is None:
        return f"measured on {machine}, without a recorded architecture"
    if isa is None:
        return f"measured on {machine}, for a target without a recorded architecture"
    if needed := other_architecture(machine, isa):
        return f"measured on {machine}, but the target is {needed}"
    return ""


def other_architecture(machine: RecordedMachine, isa: str) -> str:
    """Return the architecture that `machine` lacks for `isa`; empty if it matches or is not recorded."""
    needed = architecture_of_isa(isa)
    return "" if machine.architecture is None or architecture(machine.architecture) == needed else needed


def other_board(machine: RecordedMachine, title: str) -> bool:
    """Return True if `machine` and the title of a target name Raspberry Pis of different generations."""
    found, wanted = (RASPBERRY_PI.search(name) for name in (machine.device or "", title))
    return bool(found and wanted and found[1] != wanted[1])


def latency_origin(source: str, machine: RecordedMachine) -> str:
    """Return the source of a latency, with the machine of a measurement: "measured on Raspberry Pi 5 (aarch64)"."""
    known = source == "measured" and (machine.device or machine.architecture)
    return f"{source} on {machine}" if known else source


def _text(value: object) -> str | None:
    """Return a non-empty string cut to a length for messages; None for any other value."""
    text = value.strip() if isinstance(value, str) else ""
    return text[:LONGEST_NAME] or None
