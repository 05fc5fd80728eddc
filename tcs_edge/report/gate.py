"""Format the gate's result as a table, and format the cells for table and pull-request comment."""

from __future__ import annotations

from dataclasses import dataclass

from tcs_edge.gate.judge import GateCheck, GateResult, Outcome, shown_number
from tcs_edge.gate.measures import QUANTITIES
from tcs_edge.report.console import print_table, stdout_console
from tcs_edge.report.text import one_line

WORDS: dict[Outcome, str] = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "info": "-"}
STYLES: dict[Outcome, str] = {"fail": "red", "warn": "yellow"}
UP, DOWN, SAME = "↑", "↓", "="


@dataclass(frozen=True)
class Cells:
    """One check as text; a cell without content is "-"."""

    base: str
    value: str
    change: str
    limit: str


def cells(check: GateCheck) -> Cells:
    """Format base, value, change with its arrow, and limits of a check."""
    if check.key.startswith("requirement/"):
        return Cells("-", "yes" if check.outcome == "pass" else "no", "-", "yes")
    return Cells(_number(check.base, check.unit), _value(check), _change(check), _limits(check))


def shown_checks(result: GateResult) -> tuple[GateCheck, ...]:
    """Return the checks to show: files and diagnostics only with a limit or a change."""
    return tuple(check for check in result.checks if check.outcome != "info" or _is_news(check))


def _is_news(check: GateCheck) -> bool:
    quantity = check.key.partition("/")[0]
    if quantity in ("size_mb", "class_recall", "macro_f1", "ece", "rel_diff", "top1_agreement", "drop"):
        return bool(check.change)
    return True


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else shown_number(value, unit)


def _value(check: GateCheck) -> str:
    if check.value is None:
        return "missing"
    shown = shown_number(check.value, check.unit)
    if check.bound is None:
        return shown
    word = "at least" if _better(check) == "higher" else "up to"
    return f"{shown} ({word} {shown_number(check.bound, check.unit)})"


def _change(check: GateCheck) -> str:
    """Format a change such as "↑ +0.25 MB (+5 %)"; shares in percentage points."""
    change = check.change
    if change is None:
        return "-"
    if change == 0:
        return f"{SAME} 0"
    arrow = UP if change > 0 else DOWN
    if check.unit == "share":
        return f"{arrow} {100 * change:+.3g} points"
    percent = "" if check.change_percent is None else f" ({check.change_percent:+.3g} %)"
    return f"{arrow} {change:+.3g} {check.unit}{percent}"


def _limits(check: GateCheck) -> str:
    sign = "≥" if _better(check) == "higher" else "≤"
    parts = [f"{sign} {_number(check.limit, check.unit)}"] if check.limit is not None else []
    if check.warn_limit is not None:
        parts.append(f"warn {sign} {_number(check.warn_limit, check.unit)}")
    if check.allowed_change is not None:
        parts.append(f"change {check.allowed_change}")
    return "; ".join(parts) or "-"


def _better(check: GateCheck) -> str:
    return QUANTITIES[check.key.partition("/")[0]].better


def print_gate(result: GateResult) -> None:
    """Print every check as a row, the latency's source, the reasons for failures and warnings, and the verdict."""
    compared = result.baseline is not None
    headings = ("", "measure", *(("base",) if compared else ()), "value", *(("change",) if compared else ()), "limit")
    print_table(headings, [_row(check, compared) for check in shown_checks(result)], title=one_line(_title(result)))
    out = stdout_console()
    for check in shown_checks(result):
        if check.key == "latency_ms" and check.detail and not check.reasons:  # a reason has the detail in its line
            out.print(f"{check.title}: {one_line(check.detail)}")
    for outcome, style in STYLES.items():
        for check in result.of(outcome):
            out.print(f"{WORDS[check.outcome]} {one_line(sentence(check))}", style=style)
    out.print(f"gate: {result.verdict} ({counted(result)})", style="bold")


def _row(check: GateCheck, compared: bool) -> tuple[str, ...]:
    shown = cells(check)
    row = (WORDS[check.outcome], one_line(check.title))
    if compared:
        return (*row, shown.base, shown.value, shown.change, shown.limit)
    return (*row, shown.value, shown.limit)


def _title(result: GateResult) -> str:
    against = f", against {result.baseline.name}" if result.baseline else ""
    return f"{result.subject.name}{against}"


def sentence(check: GateCheck) -> str:
    """Format the reasons of a check in one line."""
    detail = (
        f" [{check.detail}]" if check.detail and check.detail not in check.reasons and check.value is not None else ""
    )
    return f"{check.title}: {'; '.join(check.reasons)}{detail}"


def counted(result: GateResult) -> str:
    """Format the number of checks per outcome, such as "5 passed, 1 failed"."""
    names: tuple[tuple[Outcome, str], ...] = (("pass", "passed"), ("warn", "warned"), ("fail", "failed"))
    counts = [f"{len(result.of(outcome))} {word}" for outcome, word in names if result.of(outcome)]
    return ", ".join(counts) or "nothing was checked"
