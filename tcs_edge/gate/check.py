"""One model against its limits: read, compare, judge."""

from __future__ import annotations

from pathlib import Path

from tcs_edge.errors import UsageError
from tcs_edge.gate.baseline import comparable, load_baseline
from tcs_edge.gate.judge import GateResult, judge
from tcs_edge.gate.limits import GateLimits
from tcs_edge.gate.subject import load_subject


def check_model(model: Path, limits: GateLimits, allow_other_target: bool = False) -> GateResult:
    """Hold the run folder, manifest or model file at `model` to `limits`.

    Args:
        allow_other_target: compare with a baseline of another target or precision too.

    Raises:
        UsageError: nothing to gate there, no limits at all, or a baseline that cannot be compared with.
    """
    subject = load_subject(model)
    if not limits.any:
        raise UsageError("no limits to hold the model to. Write [gate] in tcs-edge.toml, or pass --max-size-mb.")
    baseline = comparable(subject, load_baseline(limits.baseline), allow_other_target) if limits.baseline else None
    return judge(subject, limits, baseline)
