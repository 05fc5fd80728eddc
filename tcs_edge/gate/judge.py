"""Judge a model against its limits and its baseline; a missing number fails its limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from tcs_edge.gate.baseline import Baseline
from tcs_edge.gate.limits import Amount, ChangeLevel, GateLimits, Level
from tcs_edge.gate.measures import PER_RUNTIME, QUANTITIES, Measure, Quantity, Unit, is_number
from tcs_edge.gate.subject import Requirement, Subject

SCHEMA_VERSION = 1
Outcome = Literal["pass", "warn", "fail", "info"]
ROUNDING = 1e-9  # of the base: 4.2 - 4.0 is a little over 0.2 in floating point
LEVELS: dict[Outcome, str] = {"fail": "limit", "warn": "warning level"}
SHOWN_PARTS = 5
SEVERITY: tuple[Outcome, ...] = ("info", "pass", "warn", "fail")
Finding = tuple[Outcome, str]
Bound = TypeVar("Bound", float, Amount)


@dataclass(frozen=True)
class GateCheck:
    """One row: a number, the baseline's number, the limits and the outcome.

    Attributes:
        key: the key of the measure; "requirement/..." for a check without a number.
        value, bound: the number, and the end of its interval that an absolute limit applies to.
        base: the value of the baseline.
        limit, warn_limit, allowed_change: the limits; None without one.
        outcome: "info" without a limit.
        reasons: reasons for a failure or a warning, one sentence each.
        detail: source of the number.
    """

    key: str
    title: str
    unit: str
    outcome: Outcome
    value: float | None = None
    bound: float | None = None
    base: float | None = None
    limit: float | None = None
    warn_limit: float | None = None
    allowed_change: str | None = None
    reasons: tuple[str, ...] = ()
    detail: str = ""

    @property
    def change(self) -> float | None:
        """Value minus base, in the unit of the number."""
        return None if self.value is None or self.base is None else self.value - self.base

    @property
    def change_percent(self) -> float | None:
        """Change in percent of the base; None for a base of zero."""
        return None if self.change is None or not self.base else 100 * self.change / abs(self.base)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self) | {
            "reasons": list(self.reasons),
            "change": self.change,
            "change_percent": self.change_percent,
        }


@dataclass(frozen=True)
class GateResult:
    """All checks of one model."""

    subject: Subject
    baseline: Baseline | None
    checks: tuple[GateCheck, ...]

    @property
    def verdict(self) -> Literal["pass", "warn", "fail"]:
        """Worst outcome; a result without a judged check fails."""
        judged = [check.outcome for check in self.checks if check.outcome != "info"]
        if not judged or "fail" in judged:
            return "fail"
        return "warn" if "warn" in judged else "pass"

    @property
    def passed(self) -> bool:
        """True unless a check failed; warnings pass."""
        return self.verdict != "fail"

    def of(self, outcome: Outcome) -> tuple[GateCheck, ...]:
        """Return the checks with this outcome."""
        return tuple(check for check in self.checks if check.outcome == outcome)

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict,
            "model": self.subject.name,
            "student": self.subject.student,
            "target": self.subject.target,
            "baseline": self.baseline.name if self.baseline else None,
            "checks": [check.to_json() for check in self.checks],
        }


def judge(subject: Subject, limits: GateLimits, baseline: Baseline | None) -> GateResult:
    """Compare every measure of `subject` with its limits and the baseline.

    A limit fails if its number is missing. An allowed change fails without a baseline.
    """
    measures = (*subject.measures, *_missing(subject, limits, baseline))
    checks = [_judge_requirement(requirement) for requirement in subject.requirements]
    judged = [_judge_measure(measure, limits, baseline) for measure in measures]
    # A measure with neither a value nor a limit is left out.
    checks += [check for check in judged if check.outcome != "info" or check.value is not None]
    return GateResult(subject, baseline, tuple(sorted(checks, key=_order)))


def _missing(subject: Subject, limits: GateLimits, baseline: Baseline | None) -> Iterator[Measure]:
    """Yield limits without a measure: unknown quantities, and runtimes that only the baseline has."""
    known = {measure.quantity for measure in subject.measures}
    for name in QUANTITIES:
        if name not in known and (limits.level(name) or limits.change_level(name)):
            yield Measure(name, None, detail=subject.missing_reason)
    if baseline:
        keys = {measure.key for measure in subject.measures}
        for key in sorted(set(baseline.values) - keys):
            name, _, runtime = key.partition("/")
            if name in PER_RUNTIME and runtime and limits.change_level(name):
                yield Measure(name, None, runtime, detail="the baseline has this runtime, the model does not")


def _order(check: GateCheck) -> int:
    names = list(QUANTITIES)
    quantity = check.key.partition("/")[0]
    return names.index(quantity) if quantity in names else -1


def _judge_requirement(requirement: Requirement) -> GateCheck:
    outcome: Outcome = "pass" if requirement.kept else "fail"
    reasons = () if requirement.kept else (requirement.detail,)
    return GateCheck(
        f"requirement/{requirement.name}", requirement.name, "", outcome, reasons=reasons, detail=requirement.detail
    )


def _judge_measure(measure: Measure, limits: GateLimits, baseline: Baseline | None) -> GateCheck:
    quantity = QUANTITIES[measure.quantity]
    level, allowed = limits.level(measure.quantity), limits.change_level(measure.quantity)
    base = baseline.values.get(measure.key) if baseline else None
    findings = [*_against_limit(measure, quantity, level), *_against_base(measure, quantity, allowed, base, baseline)]
    return GateCheck(
        key=measure.key,
        title=f"{quantity.title}, {measure.of}" if measure.of else quantity.title,
        unit=quantity.unit,
        outcome=max((outcome for outcome, _ in findings), key=SEVERITY.index, default="info"),
        value=measure.value,
        bound=measure.bound,
        base=base,
        limit=level.fail if level else None,
        warn_limit=level.warn if level else None,
        allowed_change=_allowed_text(allowed, quantity.unit),
        reasons=tuple(reason for _, reason in findings if reason),
        detail=measure.detail,
    )


def _against_limit(measure: Measure, quantity: Quantity, level: Level | None) -> Iterator[Finding]:
    if level is None:
        return
    value = measure.judged
    if not is_number(value):
        yield "fail", f"cannot check this limit: {measure.detail or 'no number was recorded'}"
        return
    for outcome, limit in _levels(level.fail, level.warn):
        if not _within(value, limit, quantity):
            side = "over" if quantity.better == "lower" else "under"
            shown, bound = apart(value, limit, quantity.unit)
            counts = "" if measure.bound is None else f" ({quantity.counts})"
            named = _named_parts(measure, limit, quantity)
            yield outcome, f"{named}{shown}{counts} is {side} the {LEVELS[outcome]} of {bound}"
            return
    yield "pass", ""


def _named_parts(measure: Measure, limit: float, quantity: Quantity) -> str:
    """Name the parts of a measure that miss its limit, worst first, such as "cat, dog and 3 more: "."""
    missed = [name for name, value in measure.parts if not _within(value, limit, quantity)]
    more = f" and {len(missed) - SHOWN_PARTS} more" if len(missed) > SHOWN_PARTS else ""
    return f"{', '.join(missed[:SHOWN_PARTS])}{more}: " if missed else ""


def _within(value: float, limit: float, quantity: Quantity) -> bool:
    return value <= limit if quantity.better == "lower" else value >= limit


def _against_base(
    measure: Measure, quantity: Quantity, allowed: ChangeLevel | None, base: float | None, baseline: Baseline | None
) -> Iterator[Finding]:
    if allowed is None:
        return
    value = measure.value
    if not (is_number(value) and is_number(base)):
        yield "fail", f"cannot check the change: {_unknown(measure, baseline)}"
        return
    worse = value - base if quantity.better == "lower" else base - value
    for outcome, amount in _levels(allowed.fail, allowed.warn):
        if not worse <= amount.of(base) + ROUNDING * abs(base):
            allowance = "is allowed" if outcome == "fail" else "is the warning level"
            allowed_text = _amount_text(amount, quantity.unit)
            yield outcome, f"{_worse_text(worse, base, quantity)} worse than the baseline, {allowed_text} {allowance}"
            return
    yield "pass", ""


def _levels(fail: Bound | None, warn: Bound | None) -> Iterator[tuple[Outcome, Bound]]:
    if fail is not None:
        yield "fail", fail
    if warn is not None:
        yield "warn", warn


def _unknown(measure: Measure, baseline: Baseline | None) -> str:
    if measure.value is None:
        return measure.detail or "no number was recorded"
    if baseline is None:
        return "no baseline. Pass --baseline"
    return f"no number in the baseline{f', because {baseline.remark}' if baseline.remark else ''}"


def _worse_text(worse: float, base: float, quantity: Quantity) -> str:
    if quantity.unit == "share":
        return _points(worse)
    share = f" ({100 * worse / abs(base):.3g} %)" if base else ""
    return f"{shown_number(worse, quantity.unit)}{share}"


def _allowed_text(allowed: ChangeLevel | None, unit: Unit) -> str | None:
    if allowed is None:
        return None
    parts = (("", allowed.fail), ("warn ", allowed.warn))
    return ", ".join(f"{word}{_amount_text(amount, unit)}" for word, amount in parts if amount is not None)


def _amount_text(amount: Amount, unit: Unit) -> str:
    """Format an allowed change: percent of the base, percentage points of a share, or the number's own unit."""
    if amount.percent:
        return str(amount)
    return _points(amount.value) if unit == "share" else f"{amount.value:g} {unit}"


def _points(share: float) -> str:
    amount = f"{100 * share:.3g}"
    return f"{amount} point{'' if amount == '1' else 's'}"


def shown_number(value: float, unit: str, digits: int = 4) -> str:
    """Format a number with its unit; shares as percent."""
    if unit == "share":
        return f"{100 * value:.{digits}g} %"
    return f"{value:.{digits}g} {unit}".strip()


def apart(value: float, limit: float, unit: str) -> tuple[str, str]:
    """Format both numbers with enough digits to differ."""
    for digits in range(4, 17):
        pair = shown_number(value, unit, digits), shown_number(limit, unit, digits)
        if pair[0] != pair[1]:
            break
    return pair
