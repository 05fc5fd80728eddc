"""One harness for every reader of files from outside.

A reader takes the bytes of one input and ends in a value or a TcsEdgeError; everything else is a finding.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Read = Callable[[bytes], object]
MODULES = ("documents", "gate_files", "weights", "images", "run_files")


@dataclass(frozen=True)
class Reader:
    """A harness.

    Attributes:
        kind: key of `mutate.CHANGES`.
        seeds: returns valid inputs, made in the folder or taken from files that ship.
        make: returns the reader, which writes its input into the folder.
        share: relative number of inputs; slow readers get fewer.
        needs: package without which the harness is left out.
    """

    name: str
    kind: str
    seeds: Callable[[Path], list[bytes]]
    make: Callable[[Path], Read]
    share: float = 1.0
    needs: str = ""


def all_readers() -> dict[str, Reader]:
    """Return every harness by name."""
    found = [reader for module in MODULES for reader in importlib.import_module(module).READERS]
    return {reader.name: reader for reader in found}


def shares(readers: Mapping[str, Reader], runs: int) -> dict[str, int]:
    """Divide a number of inputs among the readers, at least one each."""
    total = sum(reader.share for reader in readers.values())
    return {name: max(1, round(runs * reader.share / total)) for name, reader in readers.items()}


def corpus(reader: Reader, folder: Path, kept: Path) -> list[bytes]:
    """Return the seeds and the kept inputs of a reader."""
    stored = sorted((kept / reader.name).glob("*")) if (kept / reader.name).is_dir() else []
    return [*reader.seeds(folder), *(path.read_bytes() for path in stored)]


def seeded(name: str, seed: int) -> random.Random:
    """Return random numbers that depend on the reader's name and the seed alone."""
    return random.Random(f"{name} {seed}")
