"""Runs the cells of a comparison one after the other; what is there already is not done again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tcs_edge.bench.cells import SCHEMA_VERSION, Cell, Found
from tcs_edge.errors import TcsEdgeError, UsageError
from tcs_edge.files import read_json, write_json
from tcs_edge.progress import Reporter, Silent

# What a teacher's pass depends on, beside what its name says; the arms that share it differ in the rest.
PASS_OPTIONS = ("data", "unlabeled", "teacher", "teacher_weights", "teacher_img_size", "img_size")


def run_bench(cells: Sequence[Cell], out: Path, reporter: Reporter = Silent()) -> dict[Cell, Found]:
    """What every cell found; each is kept in `out`/NAME.json as soon as it is done.

    Raises:
        UsageError: `out` holds a cell of that name with other options.
        TcsEdgeError: what a cell failed with, with its exit code; the cells done before are kept.
    """
    for cell in cells:
        _require_same_question(cell, out)
    return dict(_found(cells, out, reporter))


def _require_same_question(cell: Cell, out: Path) -> None:
    """A kept answer must be to the question that is asked now; told before anything is computed."""
    _require_same(out / f"{cell.name}.json", cell)
    if cell.teacher:
        _require_same(out / f"{cell.teacher}.json", cell, PASS_OPTIONS)


def _require_same(kept: Path, cell: Cell, names: Sequence[str] = ()) -> None:
    """The options in `kept` are the cell's: those in `names`, or all."""
    if not kept.exists():
        return
    known, asked = read_json(kept, SCHEMA_VERSION).get("options", {}), cell.question()["options"]
    if any(known.get(name) != asked.get(name) for name in names or known.keys() | asked.keys()):
        raise UsageError(f"{kept} was made with other options. Choose another --out, or remove it.")


def _found(cells: Sequence[Cell], out: Path, reporter: Reporter) -> Iterator[tuple[Cell, Found]]:
    for done, cell in enumerate(reporter.track(cells, "bench", total=len(cells)), start=1):
        passed = _answer(cell, out, cell.teacher, is_pass=True) if cell.teacher else {}
        found = Found(**_answer(cell, out, cell.name, is_pass=False))
        found = replace(found, teacher_seconds=passed.get("seconds", 0.0))
        reporter.say(f"{done} of {len(cells)}: {cell.title}: {found.accuracy:.1%} in {found.train_seconds:.0f} s")
        yield cell, found


def _answer(cell: Cell, out: Path, name: str, is_pass: bool) -> dict[str, Any]:
    """The answer in `out`, or a new process's."""
    answer = out / f"{name}.json"
    if not answer.exists():
        _run_process(cell, out / f"{name}.question", is_pass)
    return dict(read_json(answer, SCHEMA_VERSION)["found"])


def _run_process(cell: Cell, question: Path, is_pass: bool) -> None:
    document = {"schema_version": SCHEMA_VERSION, "pass": is_pass, "arm": cell.arm}
    write_json(question, document | {"options": cell.options.model_dump(mode="json", exclude_none=True)})
    command = [sys.executable, "-m", "tcs_edge.bench.cell", str(question)]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=False)
    finally:
        question.unlink(missing_ok=True)
    if done.returncode:
        raise _failure(cell, done.returncode, done.stderr)


def _failure(cell: Cell, code: int, said: str) -> TcsEdgeError:
    lines = said.strip().splitlines() or ["no message"]
    error = TcsEdgeError(f"{cell.title}: {lines[-1]}")
    error.exit_code = code if code > 0 else TcsEdgeError.exit_code
    return error
