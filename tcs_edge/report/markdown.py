"""Format the gate's result as a pull-request comment."""

from __future__ import annotations

from tcs_edge.gate.judge import GateCheck, GateResult, Outcome
from tcs_edge.report.gate import cells, counted, sentence, shown_checks
from tcs_edge.report.text import markdown_name, markdown_text

MARKER = "<!-- tcs-edge gate -->"  # lets a script find its own earlier comment
SIGNS: dict[Outcome, str] = {"pass": "✅ pass", "warn": "⚠️ warn", "fail": "❌ **fail**", "info": ""}
TITLES = {"pass": "✅ The model is within its limits", "warn": "⚠️ The model is near a limit"}
FAILED = "❌ The model misses a limit"
SHOWN_CLASSES = 10


def gate_markdown(result: GateResult) -> str:
    """Return a heading, the reasons, and a table with base, head, change and limit."""
    parts = [
        MARKER,
        f"### {TITLES.get(result.verdict, FAILED)}",
        _model(result),
        "",
        *(f"- {markdown_text(sentence(check))}" for check in (*result.of("fail"), *result.of("warn"))),
        "",
        "| measure | base | head | change | limit | |",
        "|:--|--:|--:|--:|--:|:--|",
        *(_row(check) for check in shown_checks(result)),
        "",
        _footer(result),
    ]
    return "\n".join(parts) + "\n"


def _model(result: GateResult) -> str:
    subject = result.subject
    student = (
        f"{markdown_name(subject.student)} for {markdown_name(subject.target or '?')}, " if subject.student else ""
    )
    return f"{student}{markdown_name(subject.name)}: {counted(result)}."


def _row(check: GateCheck) -> str:
    shown = cells(check)
    texts = (check.title, shown.base, shown.value, shown.change, shown.limit)
    return f"| {' | '.join(markdown_text(text) for text in texts)} | {SIGNS[check.outcome]} |"


def _footer(result: GateResult) -> str:
    """Return a folded section with the sources of the numbers and the classes."""
    lines = [f"{markdown_text(check.title)}: {markdown_text(check.detail)}" for check in result.checks if check.detail]
    if result.baseline:
        lines.insert(0, f"base: {markdown_name(result.baseline.name)}")
    if names := result.subject.classes:
        more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
        shown = ", ".join(markdown_name(name) for name in names[:SHOWN_CLASSES])
        lines.append(f"{len(names)} classes: {shown}{more}")
    return "<details><summary>Sources of the numbers</summary>\n\n" + "<br>\n".join(lines) + "\n\n</details>"
