"""Latency profile of a target: latencies of students, as JSON."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tcs_edge.errors import DataError, SpecError, UnknownName
from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.locate import shipped_files
from tcs_edge.specs.machine import RecordedMachine, recorded_machine
from tcs_edge.specs.strict import Spec, validated
from tcs_edge.specs.target import RuntimeName
from tcs_edge.utils.files import write_json
from tcs_edge.utils.reading import load_json

Source = Literal["measured", "published", "estimated"]
# ncnn, TFLite and ArmNN stand for published latencies: proxies of the runtimes of a target.
ProfileRuntime = Literal[RuntimeName, "ncnn", "tflite", "armnn"]
# A clock cannot resolve less, and nobody waits longer for one image. Other values are errors of units.
MIN_LATENCY_MS, MAX_LATENCY_MS = 1e-4, 3.6e6
Milliseconds = Annotated[float, Field(ge=MIN_LATENCY_MS, le=MAX_LATENCY_MS)]
RowKey = tuple[str, int, int, str, int, str]


class LatencyRow(Spec):
    """One latency in ms, 0.0001 to 3,600,000: the median `p50_ms` and its interval [low_ms, high_ms].

    The interval of a "measured" row is the range of the medians over repetitions. For "published" it is the
    publisher's interval, if any. For "estimated" it is a prediction interval, and the citation describes the method.
    `citation` is a key of the profile's `citations`. `peak_memory_mb` (10^6 bytes) is the memory that loading and
    running the model adds to a process. `measured_on`, `runtime_version`, `device` and `architecture` are the date,
    the runtime version and the machine of the measurement; without them, the profile's `machine` applies.
    """

    model: str
    img_size: int = Field(ge=8, le=4096)
    batch: int = Field(default=1, ge=1)
    runtime: ProfileRuntime
    threads: int = Field(ge=1)
    precision: Precision
    p50_ms: Milliseconds
    low_ms: Milliseconds
    high_ms: Milliseconds
    p90_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    peak_memory_mb: float | None = Field(default=None, ge=0, le=1e7)
    measured_on: date | None = None
    runtime_version: str | None = None
    device: str | None = None
    architecture: str | None = None
    source: Source
    citation: str

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        if not self.low_ms <= self.p50_ms <= self.high_ms:
            raise ValueError(
                f"{self.model}: low_ms <= p50_ms <= high_ms does not hold "
                f"({self.low_ms}, {self.p50_ms}, {self.high_ms})"
            )
        tail = [ms for ms in (self.p50_ms, self.p90_ms, self.p99_ms) if ms is not None]
        if tail != sorted(tail):
            raise ValueError(f"{self.model}: p50_ms <= p90_ms <= p99_ms does not hold ({tail})")
        return self

    @property
    def key(self) -> RowKey:
        """Key of the row, unique within a profile."""
        return (self.model, self.img_size, self.batch, self.runtime, self.threads, self.precision)

    @property
    def what(self) -> str:
        """The key in words."""
        plural = "s" if self.threads > 1 else ""
        batch = f" batch {self.batch}" if self.batch > 1 else ""
        return f"{self.model} {self.img_size} px{batch} {self.runtime} {self.threads} thread{plural} {self.precision}"

    def version(self, machine: dict[str, str]) -> str | None:
        """Return the runtime version of the measurement, with the profile's `machine`; None if it is not recorded."""
        return self.runtime_version or machine.get(self.runtime)

    def measured_with(self, machine: dict[str, str]) -> RecordedMachine:
        """Return the machine of the measurement, with the profile's `machine` if the row names none."""
        if self.device or self.architecture:
            return recorded_machine({"device": self.device, "architecture": self.architecture})
        return recorded_machine(machine)


class Profile(Spec):
    """Latencies on one target.

    `machine` describes the machine of measured rows (CPU, clock, runtime versions) in words.
    """

    schema_version: Literal[1] = 1
    target: str
    machine: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    citations: dict[str, str] = Field(default_factory=dict)
    rows: tuple[LatencyRow, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unknown = {row.citation for row in self.rows} - set(self.citations)
        if unknown:
            raise ValueError(f"rows have citations that are missing in `citations`: {', '.join(sorted(unknown))}")
        seen: set[RowKey] = set()
        for row in self.rows:
            if row.key in seen:
                raise ValueError(f"two rows for {row.key}")
            seen.add(row.key)
        return self


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a shipped profile by name, or any profile by the path of its JSON file.

    Raises:
        UnknownName: no shipped profile has this name.
        SpecError: the file is missing, is not JSON, or violates the schema.
    """
    path = _resolve(name_or_path)
    try:
        raw = load_json(path, "cannot be read as JSON", "Repair the file.")
    except FileNotFoundError:
        raise SpecError(
            f"no such profile file: {path}. Check `profile` in the target file. "
            "Paths are relative to the current folder."
        ) from None
    except DataError as error:
        raise SpecError(str(error)) from None
    profile = validated(Profile, raw, path)
    if not profile.rows:
        raise SpecError(f"{path}: rows is empty. Leave `profile` empty in the target file until there are latencies.")
    return profile


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile as JSON, atomically."""
    write_json(path, profile.model_dump(mode="json", exclude_defaults=False, exclude_none=True))


def _resolve(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if text.endswith(".json"):
        return Path(text)
    known = shipped_files("profiles")
    if text not in known:
        raise UnknownName("profile", text, known, hint="Or pass the path of a .json file.")
    return known[text]
