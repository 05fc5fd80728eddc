"""Replace the latency estimate by the latency that a bundle's selfcheck.py measured on the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from tcs_edge.errors import DataError, UsageError
from tcs_edge.gate.measures import Measure
from tcs_edge.gate.subject import Requirement, Subject, read_document
from tcs_edge.runs.ranges import Amount, Milliseconds, Positive, Threads
from tcs_edge.specs.machine import RecordedMachine, not_of_target, other_architecture, recorded_machine
from tcs_edge.specs.strict import Spec, format_error
from tcs_edge.specs.target import list_targets, load_target

ON_DEVICE = "self-check on the device"
REPEAT = "Gate the run folder, with a self-check that was repeated on the target"
KIND: Literal["tcs-edge selfcheck"] = "tcs-edge selfcheck"


class MeasuredRow(Spec):
    """One latency in ms: percentiles over all runs, and the lowest and highest median of a repetition."""

    model: str
    img_size: Positive
    batch: Positive
    runtime: str
    runtime_version: str
    threads: Threads
    precision: str
    arithmetic: str
    p50_ms: Milliseconds
    p90_ms: Milliseconds
    p99_ms: Milliseconds
    low_ms: Milliseconds
    high_ms: Milliseconds
    runs: Positive
    process_peak_memory_mb: Amount | None = None
    source: Literal["measured"]

    @model_validator(mode="after")
    def _in_order(self) -> MeasuredRow:
        if not (self.low_ms <= self.p50_ms <= self.high_ms and self.p50_ms <= self.p90_ms <= self.p99_ms):
            raise ValueError("low_ms <= p50_ms <= high_ms and p50_ms <= p90_ms <= p99_ms do not hold")
        return self


class DeviceCheck(Spec):
    """One check of selfcheck.py."""

    name: str
    passed: bool = Field(strict=True)
    detail: str = ""


class SelfCheck(Spec):
    """Document that selfcheck.py writes; `model_sha256` are the hashes of the model's files."""

    schema_version: Literal[1] = 1
    kind: Literal["tcs-edge selfcheck"]
    verdict: Literal["pass", "fail"]
    measured: str
    target: str | None
    model_sha256: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...]
    machine: dict[str, Any]
    checks: tuple[DeviceCheck, ...]
    rows: tuple[MeasuredRow, ...] = Field(max_length=1)

    @property
    def device(self) -> RecordedMachine:
        """Device that ran the self-check, as reported by its system."""
        return recorded_machine(self.machine)


def read_selfcheck(path: Path) -> SelfCheck:
    """Read a selfcheck.json.

    Raises:
        UsageError: the file is missing, or is not a selfcheck.json.
    """
    try:
        return SelfCheck.model_validate(read_document(path))
    except DataError as error:
        raise UsageError(str(error)) from None
    except ValidationError as error:
        advice = "Run the bundle's selfcheck.py on the device again."
        raise UsageError(
            f"{path} is not a selfcheck.json of a bundle: {format_error(error, SelfCheck, advice)}"
        ) from None


def with_selfcheck(subject: Subject, check: SelfCheck) -> Subject:
    """Return the subject with the verdict and the latency of the device.

    Without a recorded architecture, the latency is missing and the requirement of the self-check fails.

    Raises:
        UsageError: the self-check belongs to another model or target, or ran on another architecture.
    """
    if check.model_sha256 and not set(check.model_sha256) <= subject.hashes:
        raise UsageError(f"the self-check belongs to another model than {subject.name}. Bundle {subject.name} again.")
    if None not in (check.target, subject.target) and check.target != subject.target:
        raise UsageError(
            f"the self-check is of a bundle for {check.target}, {subject.name} is for {subject.target}. "
            "Bundle this run, and run its selfcheck.py on the device."
        )
    target = subject.target or check.target or "unknown"
    isa = subject.isa or _shipped_isa(target)
    if isa and (needed := other_architecture(check.device, isa)):
        raise UsageError(
            f"the self-check ran on {check.device}, but the target {target} is {needed}. "
            "Run the bundle's selfcheck.py on the target."
        )
    reason = not_of_target(check.device, isa)
    others = tuple(measure for measure in subject.measures if measure.quantity != "latency_ms")
    return replace(
        subject,
        measures=(*others, _latency(check, target, reason)),
        requirements=(*subject.requirements, _device_requirement(check, reason)),
    )


def _shipped_isa(target: str) -> str | None:
    """Return the instruction set of a shipped target; None for any other name."""
    return load_target(target).cpu.isa if target in list_targets() else None


def _device_requirement(check: SelfCheck, reason: str) -> Requirement:
    """Require a passed self-check on the target; `reason` speaks against its machine."""
    if reason:
        return Requirement(ON_DEVICE, False, f"{reason}. {REPEAT}")
    failed = [f"{one.name}: {one.detail}" for one in check.checks if not one.passed]
    passed = check.verdict == "pass" and bool(check.checks) and not failed and bool(check.model_sha256)
    return Requirement(ON_DEVICE, passed, str(check.device) if passed else "; ".join(failed) or "it failed")


def _latency(check: SelfCheck, target: str, reason: str) -> Measure:
    if reason:
        return Measure("latency_ms", None, detail=f"{reason}. {REPEAT}")
    if not check.rows:
        return Measure("latency_ms", None, detail="the self-check measured no latency")
    row = check.rows[0]
    detail = (
        f"measured on {check.device} for the target {target}, {row.threads} threads, "
        f"{row.runtime} {row.runtime_version}, p90 {row.p90_ms:.3g} ms, p99 {row.p99_ms:.3g} ms"
    )
    return Measure("latency_ms", row.p50_ms, bound=row.high_ms, detail=detail)
