"""Format the gate's result as a pull-request comment that is also readable as plain text.

The verdict is the heading. All else is one fenced block of aligned text, in which sites interpret no names. The last
line is a hidden marker, by which ci/github/comment.sh finds the comment of the same gate.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len

from tcs_edge.gate.judge import GateCheck, GateResult
from tcs_edge.report.gate import WORDS, cells, counted, sentence, shown_checks
from tcs_edge.report.text import isolated, one_line

TITLES = {
    "pass": "✅ pass: the model is within its limits",
    "warn": "⚠️ warn: the model is near a limit",
    "fail": "❌ fail: the model misses a limit",
}
SHOWN_CLASSES = 10
WIDTH = 100
# Mentions and HTML, for sites and mail programs that ignore the fence. An invisible word joiner behind them is enough.
INTERPRETED = re.compile(r"@(?=\w)|<(?=[A-Za-z/!?])")
LONGEST_NAME = 60


def gate_markdown(result: GateResult) -> str:
    """Return the verdict as a heading, and a block with the reasons, all numbers and their sources."""
    parts = [_about(result), _reasons(result), _table(result), _sources(result)]
    block = "\n\n".join("\n".join(part) for part in map(list, parts) if part)
    block = INTERPRETED.sub("\\g<0>\u2060", block)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block)), default=0))
    return f"### {TITLES[result.verdict]}\n\n{fence}text\n{block}\n{fence}\n\n{marker(result)}\n"


def marker(result: GateResult) -> str:
    """Return the hidden last line, equal for the same model and target: "<!-- tcs-edge-gate: runs/pets for rpi4 -->".

    The digest keeps names apart that become equal by the replacement of characters that end an HTML comment.
    """
    named = result.subject.name, result.subject.target or ""
    digest = hashlib.sha256("\0".join(named).encode(errors="replace")).hexdigest()[:8]
    words = [re.sub(r"[^A-Za-z0-9._/]+", "-", name)[:LONGEST_NAME].strip("-") for name in named]
    return f"<!-- tcs-edge-gate: {' for '.join(filter(None, words))} {digest} -->"


def _about(result: GateResult) -> Iterator[str]:
    subject = result.subject
    student = f" ({subject.student} for {subject.target or '?'})" if subject.student else ""
    yield from _wrapped(f"model: {subject.name}{student}")
    if result.baseline:
        yield from _wrapped(f"base: {result.baseline.name}")
    yield from _wrapped(f"checks: {counted(result)}")


def _reasons(result: GateResult) -> Iterator[str]:
    for check in (*result.of("fail"), *result.of("warn")):
        yield from _wrapped(f"{WORDS[check.outcome]}  {sentence(check)}")


def _table(result: GateResult) -> Iterable[str]:
    rows = [("", "measure", "base", "head", "change", "limit"), *map(_row, shown_checks(result))]
    return aligned([row if result.baseline else (*row[:2], row[3], row[5]) for row in rows])


def _row(check: GateCheck) -> tuple[str, ...]:
    shown = cells(check)
    return (WORDS[check.outcome], check.title, shown.base, shown.value, shown.change, shown.limit)


def _sources(result: GateResult) -> Iterator[str]:
    yield "sources of the numbers:"
    for check in result.checks:
        if check.detail:
            yield from _wrapped(f"  {check.title}: {check.detail}")
    if names := result.subject.classes:
        more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
        yield from _wrapped(f"  {len(names)} classes: {', '.join(names[:SHOWN_CLASSES])}{more}")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines whose columns are aligned in a font of fixed width."""
    safe = [[isolated(one_line(cell)) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*safe, strict=True)]
    lines = (
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        for row in safe
    )
    return [line.rstrip() for line in lines]


def _wrapped(text: str) -> list[str]:
    """Return `text` in lines of at most WIDTH characters, except for longer words; further lines are indented."""
    lines = textwrap.wrap(
        one_line(text), WIDTH, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False
    )
    return [isolated(line) for line in lines]
