"""Execution of a comparison: one run after the other, without the runs that have a result already."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tcs_edge.bench.grid import DIVERGED, OTHER_INPUTS, SCHEMA_VERSION, BenchRun, RunResult
from tcs_edge.errors import DataError, TcsEdgeError, UsageError, cut, short
from tcs_edge.utils.files import write_json
from tcs_edge.utils.processes import run_attached
from tcs_edge.utils.progress import track
from tcs_edge.utils.reading import read_json

logger = logging.getLogger(__name__)

RESULT = TypeAdapter(RunResult)
AGAIN = "Remove the file, then run the command again."

# Options that change a teacher's pass, in addition to its name. Arms that share the pass differ in the others.
PASS_OPTIONS = (
    "data", "unlabeled", "teacher", "teacher_weights", "teacher_img_size", "teacher_onnx", "teacher_mean",
    "teacher_std", "teacher_layout", "teacher_output", "teacher_features", "img_size",
)  # fmt: skip
PASS_INPUTS = ("images", "teacher")


def run_bench(runs: Sequence[BenchRun], out: Path) -> dict[BenchRun, RunResult]:
    """Return the result of every run, and write each to `out`/NAME.json as soon as it is finished.

    Runs of a grid of learning rates that diverge are left out with a warning.

    Raises:
        DataError: a result in `out` is damaged.
        UsageError: `out` has the result of a run with the same name but other options, files or test images.
        TcsEdgeError: a run failed; message and exit code are the run's. Earlier results are kept.
    """
    for run in runs:
        _require_same_config(run, out)
    return dict(_results(runs, out))


def _require_same_config(run: BenchRun, out: Path) -> None:
    """Check that earlier results in `out` have the options and inputs of `run`, before anything is computed."""
    _require_same(out / f"{run.name}.json", run)
    if run.teacher:
        _require_same(out / f"{run.teacher}.json", run, PASS_OPTIONS, PASS_INPUTS)


def _require_same(kept: Path, run: BenchRun, options: Sequence[str] = (), inputs: Sequence[str] = ()) -> None:
    """Check that the file `kept` has the run's options and inputs: all, or only the named ones."""
    if not kept.exists():
        return
    wanted = run.config_key()
    others = ["other options"] if _differing(_part(kept, "options"), wanted["options"], options) else []
    others += [OTHER_INPUTS[name] for name in _differing(_part(kept, "inputs"), wanted["inputs"], inputs)]
    if others:
        raise UsageError(f"{kept} is the result of {others[0]}. Pass another --out, or remove the file.")


def _differing(known: Mapping[str, Any], wanted: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return the names, of all or of `names`, whose values differ."""
    return [name for name in names or sorted(known.keys() | wanted.keys()) if known.get(name) != wanted.get(name)]


def _results(runs: Sequence[BenchRun], out: Path) -> Iterator[tuple[BenchRun, RunResult]]:
    images = 0
    for done, run in enumerate(track(runs, "bench", total=len(runs)), start=1):
        passed = _result(run, out, run.teacher, is_pass=True) if run.teacher else {}
        written = _result(run, out, run.name, is_pass=False)
        if DIVERGED in written:
            reason = str(written[DIVERGED]).split(". ")[0]
            logger.warning(f"run {done} of {len(runs)}: {run.title}: diverged, left out ({cut(reason, 200)})")
            continue
        found = _checked(written, out / f"{run.name}.json")
        found = replace(found, teacher_seconds=_seconds(passed, out / f"{run.teacher}.json"))
        if images not in (0, len(found.correct)):
            raise UsageError(
                f"{out / run.name}.json is of {len(found.correct)} test images, earlier results are of {images}. "
                "Pass another --out, or remove the files of other images."
            )
        images = len(found.correct)
        accuracy, seconds = f"accuracy {100 * found.accuracy:.1f} %", f"training {found.train_seconds:.0f} s"
        logger.info(f"run {done} of {len(runs)}: {run.title}: {accuracy}, {seconds}")
        yield run, found


def _result(run: BenchRun, out: Path, name: str, is_pass: bool) -> dict[str, Any]:
    """Return the result in `out`, or run a process for it."""
    path = out / f"{name}.json"
    if not path.exists():
        _run_process(run, out / f"{name}.config_key", is_pass)
    return _part(path, "found")


def _part(path: Path, key: str) -> dict[str, Any]:
    """Return a table of a result file.

    Raises:
        DataError: the file is damaged.
    """
    part = read_json(path, SCHEMA_VERSION).get(key)
    if not isinstance(part, dict):
        raise DataError(f"{path}: {key} is not a table. {AGAIN}")
    return part


def _checked(found: dict[str, Any], path: Path) -> RunResult:
    """Return the result in a file.

    Raises:
        DataError: a value is missing or of another type.
    """
    try:
        result = RESULT.validate_json(json.dumps(found), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(map(str, problem["loc"]))
        raise DataError(f"{path}: found.{name}: {problem['msg']}, got {short(problem['input'])}. {AGAIN}") from None
    if not result.correct or set(result.correct) - {"0", "1"}:
        raise DataError(f"{path}: found.correct: not zeros and ones, got {short(result.correct)}. {AGAIN}")
    return result


def _seconds(passed: dict[str, Any], path: Path) -> float:
    seconds = passed.get("seconds", 0.0)
    if type(seconds) not in (int, float):
        raise DataError(f"{path}: found.seconds: not a number, got {short(seconds)}. {AGAIN}")
    return float(seconds)


def _run_process(run: BenchRun, config_key: Path, is_pass: bool) -> None:
    document = {"schema_version": SCHEMA_VERSION, "pass": is_pass, "arm": run.arm, "of_grid": run.of_grid}
    options = run.options.model_dump(mode="json", exclude_none=True)
    write_json(config_key, document | {"options": options, "inputs": dict(run.inputs)})
    try:
        done = run_attached("tcs_edge.bench.worker", str(config_key))
    except KeyboardInterrupt:
        logger.warning("stopped. Finished runs are kept. Continue with the same command.")
        raise
    finally:
        config_key.unlink(missing_ok=True)
    if done.returncode:
        raise _failure(run, done.returncode, done.stderr)


def _failure(run: BenchRun, code: int, stderr: str) -> TcsEdgeError:
    lines = stderr.strip().splitlines() or ["no message"]
    error = TcsEdgeError(f"{run.title}: {lines[-1]}")
    error.exit_code = code if code > 0 else TcsEdgeError.exit_code
    return error
