"""Replace the latency estimate by the latency that a bundle's selfcheck.py measured on the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from tcs_edge.errors import DataError, UsageError
from tcs_edge.gate.measures import Measure
from tcs_edge.gate.subject import Requirement, Subject, read_document
from tcs_edge.runs.schema import Amount, Milliseconds, Positive, Threads
from tcs_edge.specs.strict import Spec, format_error

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
    def device(self) -> str:
        """Name of the device, as reported by its system."""
        return str(self.machine.get("device", "an unnamed device"))


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

    Raises:
        UsageError: the self-check belongs to another model.
    """
    if check.model_sha256 and not set(check.model_sha256) <= subject.hashes:
        raise UsageError(f"the self-check belongs to another model than {subject.name}. Bundle {subject.name} again.")
    others = tuple(measure for measure in subject.measures if measure.quantity != "latency_ms")
    return replace(
        subject, measures=(*others, _latency(check)), requirements=(*subject.requirements, _device_requirement(check))
    )


def _device_requirement(check: SelfCheck) -> Requirement:
    failed = [f"{one.name}: {one.detail}" for one in check.checks if not one.passed]
    passed = check.verdict == "pass" and bool(check.checks) and not failed and bool(check.model_sha256)
    return Requirement("self-check on the device", passed, check.device if passed else "; ".join(failed) or "it failed")


def _latency(check: SelfCheck) -> Measure:
    if not check.rows:
        return Measure("latency_ms", None, detail="the self-check measured no latency")
    row = check.rows[0]
    detail = (
        f"measured on {check.device}, {row.threads} threads, {row.runtime} {row.runtime_version}, "
        f"p90 {row.p90_ms:.3g} ms, p99 {row.p99_ms:.3g} ms"
    )
    return Measure("latency_ms", row.p50_ms, bound=row.high_ms, detail=detail)
