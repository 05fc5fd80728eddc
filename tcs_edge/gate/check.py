"""One model against its limits: read, compare, judge."""

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
    """Hold the run folder, manifest or model file at `model` to `limits`.

    Args:
        allow_other_target: compare with a baseline of another target or precision too.
        selfcheck: what a bundle's selfcheck.py wrote on the device; its latency replaces the estimate.

    Raises:
        UsageError: nothing to gate there, no limits at all, a baseline that cannot be compared with, or a
            self-check of another model.
    """
    subject = measured_subject(model, selfcheck)
    if not limits.any:
        raise UsageError("no limits to hold the model to. Write [gate] in tcs-edge.toml, or pass --max-size-mb.")
    baseline = comparable(subject, load_baseline(limits.baseline), allow_other_target) if limits.baseline else None
    return judge(subject, limits, baseline)


def accept_model(model: Path, limits: GateLimits, baseline: Path, selfcheck: Path | None = None) -> GateResult:
    """Write the numbers of `model` to the file `baseline`, and judge what holds without a comparison.

    The new numbers are accepted, so changes are not judged; absolute limits are, where there are any. A model that
    is not what was validated is no baseline: nothing is written then, and the result fails.

    Raises:
        UsageError: as `check_model`, apart from missing limits. MissingError: the file cannot be written.
    """
    subject = measured_subject(model, selfcheck)
    try:
        write_baseline(baseline, subject)
        written = Requirement(WRITTEN, True, str(baseline))
    except RequirementMissed as error:
        written = Requirement(WRITTEN, False, str(error))
    return judge(replace(subject, requirements=(*subject.requirements, written)), limits.absolute(), None)


def measured_subject(model: Path, selfcheck: Path | None) -> Subject:
    """The model with what is known of it, and with what its device measured where there is a self-check.

    Raises:
        UsageError: as `check_model`.
    """
    subject = load_subject(model)
    return subject if selfcheck is None else with_selfcheck(subject, read_selfcheck(selfcheck))
