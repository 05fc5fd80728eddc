"""Runs the runs of a comparison one after the other; what is there already is not done again."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tcs_edge.bench.grid import SCHEMA_VERSION, BenchRun, RunResult
from tcs_edge.errors import TcsEdgeError, UsageError
from tcs_edge.utils.files import read_json, write_json
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

# What a teacher's pass depends on, beside what its name says; the arms that share it differ in the rest.
PASS_OPTIONS = ("data", "unlabeled", "teacher", "teacher_weights", "teacher_img_size", "img_size")


def run_bench(runs: Sequence[BenchRun], out: Path) -> dict[BenchRun, RunResult]:
    """What every run found; each is kept in `out`/NAME.json as soon as it is done.

    Raises:
        UsageError: `out` holds a run of that name with other options.
        TcsEdgeError: what a run failed with, with its exit code; the runs done before are kept.
    """
    for run in runs:
        _require_same_config(run, out)
    return dict(_found(runs, out))


def _require_same_config(run: BenchRun, out: Path) -> None:
    """A kept answer must be to the config_key that is asked now; told before anything is computed."""
    _require_same(out / f"{run.name}.json", run)
    if run.teacher:
        _require_same(out / f"{run.teacher}.json", run, PASS_OPTIONS)


def _require_same(kept: Path, run: BenchRun, names: Sequence[str] = ()) -> None:
    """The options in `kept` are the run's: those in `names`, or all."""
    if not kept.exists():
        return
    known, asked = read_json(kept, SCHEMA_VERSION).get("options", {}), run.config_key()["options"]
    if any(known.get(name) != asked.get(name) for name in names or known.keys() | asked.keys()):
        raise UsageError(f"{kept} was made with other options. Choose another --out, or remove it.")


def _found(runs: Sequence[BenchRun], out: Path) -> Iterator[tuple[BenchRun, RunResult]]:
    for done, run in enumerate(track(runs, "bench", total=len(runs)), start=1):
        passed = _answer(run, out, run.teacher, is_pass=True) if run.teacher else {}
        found = RunResult(**_answer(run, out, run.name, is_pass=False))
        found = replace(found, teacher_seconds=passed.get("seconds", 0.0))
        logger.info(f"{done} of {len(runs)}: {run.title}: {found.accuracy:.1%} in {found.train_seconds:.0f} s")
        yield run, found


def _answer(run: BenchRun, out: Path, name: str, is_pass: bool) -> dict[str, Any]:
    """The answer in `out`, or a new process's."""
    answer = out / f"{name}.json"
    if not answer.exists():
        _run_process(run, out / f"{name}.config_key", is_pass)
    return dict(read_json(answer, SCHEMA_VERSION)["found"])


def _run_process(run: BenchRun, config_key: Path, is_pass: bool) -> None:
    document = {"schema_version": SCHEMA_VERSION, "pass": is_pass, "arm": run.arm}
    write_json(config_key, document | {"options": run.options.model_dump(mode="json", exclude_none=True)})
    command = [sys.executable, "-m", "tcs_edge.bench.worker", str(config_key)]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=False)
    finally:
        config_key.unlink(missing_ok=True)
    if done.returncode:
        raise _failure(run, done.returncode, done.stderr)


def _failure(run: BenchRun, code: int, said: str) -> TcsEdgeError:
    lines = said.strip().splitlines() or ["no message"]
    error = TcsEdgeError(f"{run.title}: {lines[-1]}")
    error.exit_code = code if code > 0 else TcsEdgeError.exit_code
    return error
