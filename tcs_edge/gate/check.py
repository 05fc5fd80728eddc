"""Read one model, compare it with its baseline, and judge it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tcs_edge.errors import RequirementMissed, UsageError
from tcs_edge.gate.baseline import comparable, load_baseline, write_baseline
from tcs_edge.gate.judge import GateResult, judge
from tcs_edge.gate.limits import GateLimits
from tcs_edge.gate.selfcheck import read_selfcheck, with_selfcheck
from tcs_edge.gate.subject import Requirement, Subject, load_subject

WRITTEN = "written as the baseline"


def check_model(
    model: Path, limits: GateLimits, allow_other_target: bool = False, selfcheck: Path | None = None
) -> GateResult:
    """Judge the run folder, manifest or model file at `model` against `limits`.

    Args:
        allow_other_target: accept a baseline of another target or precision.
        selfcheck: selfcheck.json from the device; its latency replaces the estimate.

    Raises:
        UsageError: `model` is not a model, there are no limits, the baseline is not comparable, or the
            self-check belongs to another model.
    """
    subject = measured_subject(model, selfcheck)
    if not limits.any:
        raise UsageError("no limits are set. Write [gate] in tcs-edge.toml, or pass --max-size-mb.")
    baseline = comparable(subject, load_baseline(limits.baseline), allow_other_target) if limits.baseline else None
    return judge(subject, limits, baseline)


def accept_model(model: Path, limits: GateLimits, baseline: Path, selfcheck: Path | None = None) -> GateResult:
    """Write the numbers of `model` to the file `baseline`, and judge the absolute limits.

    Changes are not judged, because the new numbers are accepted. If the model's files changed after
    validation, nothing is written and the result fails.

    Raises:
        UsageError: as `check_model`, except that limits may be missing. MissingError: the file cannot be written.
    """
    subject = measured_subject(model, selfcheck)
    try:
        write_baseline(baseline, subject)
        written = Requirement(WRITTEN, True, str(baseline))
    except RequirementMissed as error:
        written = Requirement(WRITTEN, False, str(error))
    return judge(replace(subject, requirements=(*subject.requirements, written)), limits.absolute(), None)


def measured_subject(model: Path, selfcheck: Path | None) -> Subject:
    """Read the model; a self-check replaces the latency by the one that the device measured.

    Raises:
        UsageError: as `check_model`.
    """
    subject = load_subject(model)
    return subject if selfcheck is None else with_selfcheck(subject, read_selfcheck(selfcheck))
