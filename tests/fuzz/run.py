#!/usr/bin/env python3
"""Feed changed files to every reader, and count inputs and uncaught errors.

    python tests/fuzz/run.py [--runs N] [--reader NAME ...] [--seed S] [--engine atheris|mutate] [--findings DIR]

Any input must end in a value or a TcsEdgeError, within `MOST_SECONDS` of CPU time and `MOST_MEMORY` bytes. With
atheris, coverage of tcs_edge guides the changes; without it, new messages do. Equal options repeat a run. Exit code 1
after an uncaught error. Every reader runs in a fork of its own, so a crash of a native library counts too.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from session import Session  # noqa: E402

CORPUS = HERE / "corpus"
MOST_FORKS = 20  # of one reader, after crashes
SILENT_SECONDS = 120.0  # a native call that does not return
# Imported once, before the forks.
LIBRARIES = (
    "timm", "tcs_edge.report.page.run", "tcs_edge.report.model_card", "tcs_edge.report.junit", "tcs_edge.gate.check",
    "tcs_edge.gate.onnx_file", "tcs_edge.gate.openvino_file", "tcs_edge.project.read", "tcs_edge.profiling.merge",
    "tcs_edge.profiling.device.session", "tcs_edge.teachers.feature_file", "tcs_edge.teachers.cache",
    "tcs_edge.runtimes.ncnn_file", "tcs_edge.runtimes.litert_file", "tcs_edge.data.intake",
    "tcs_edge.training.fold", "tcs_edge.runs.bom", "tcs_edge.latency.plausibility",
)  # fmt: skip


@dataclass
class Total:
    """Sum over the forks of one reader; `findings` maps a kind of error to (count, file of its first input)."""

    inputs: int = 0
    values: int = 0
    slowest_ms: float = 0.0
    seconds: float = 0.0
    findings: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, document: dict[str, Any]) -> None:
        self.inputs += document["inputs"]
        self.values += document["values"]
        self.slowest_ms = max(self.slowest_ms, document["slowest_ms"])
        for kind, (count, path) in document["findings"].items():
            self.findings.setdefault(kind, [0, path])[0] += count

    @property
    def uncaught(self) -> int:
        return sum(count for count, _ in self.findings.values())


def fuzz(reader: Any, runs: int, arguments: argparse.Namespace) -> Total:
    """Run one reader in forks until `runs` inputs are done."""
    total, started = Total(), _spent()
    for fork in range(MOST_FORKS):
        if total.inputs >= runs:
            break
        with tempfile.TemporaryDirectory(prefix="tcs-edge-fuzz-", dir=memory_folder()) as folder:
            session = Session(reader, Path(folder), CORPUS, arguments.findings, runs - total.inputs)
            total.add(_in_fork(session, arguments.engine, arguments.seed + 1000 * fork, arguments.keep))
    total.seconds = _spent() - started
    return total


def _spent() -> float:
    """Return the CPU time of all ended forks, in seconds."""
    spent = os.times()
    return spent.children_user + spent.children_system


def memory_folder() -> str | None:
    """Return a folder in memory, where files are written fast; None uses the system's default."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2**28 else None


def _in_fork(session: Session, engine: str, seed: int, keep: Path | None) -> dict[str, Any]:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            session.run(engine, seed, keep)
        except BaseException:
            traceback.print_exc()
        os._exit(9)
    status = _waited(child, session)
    if session.result.is_file():
        return dict(json.loads(session.result.read_text()))
    return session.crashed(status)


def _waited(child: int, session: Session) -> int:
    """Wait for a fork; end it if no input has finished for some time."""
    done, moved = -1, time.monotonic()
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
        if (now := session.done()) != done:
            done, moved = now, time.monotonic()
        elif time.monotonic() - moved > SILENT_SECONDS:
            os.kill(child, signal.SIGKILL)


def main() -> int:
    """Run the command line; return the exit code."""
    from readers import all_readers, shares

    known = all_readers()
    parser = argparse.ArgumentParser(description="Fuzz every reader of files from outside.")
    parser.add_argument("--runs", type=int, default=50_000, help="inputs of all readers together")
    parser.add_argument("--reader", nargs="+", choices=sorted(known), help="default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("atheris", "mutate"), help="default: atheris, if it is installed")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder for the inputs of errors")
    parser.add_argument("--keep", type=Path, help="folder for inputs that reached new code")
    parser.add_argument("--json", type=Path, help="write the totals to this file")
    arguments = parser.parse_args()
    arguments.engine = arguments.engine or ("atheris" if _has("atheris") else "mutate")
    chosen = {
        name: known[name] for name in arguments.reader or known if not known[name].needs or _has(known[name].needs)
    }
    _import_libraries(arguments.engine)
    print(f"engine: {arguments.engine}, seed {arguments.seed}, inputs {arguments.runs}")
    print(f"{'reader':22} {'inputs':>8} {'read':>6} {'uncaught':>8} {'slowest ms':>10} {'CPU s':>8}")
    totals = {}
    for name, runs in shares(chosen, arguments.runs).items():
        total = totals[name] = fuzz(chosen[name], runs, arguments)
        read = f"{100 * total.values / max(1, total.inputs):.0f} %"
        print(f"{name:22} {total.inputs:8} {read:>6} {total.uncaught:8} {total.slowest_ms:10.0f} {total.seconds:8.1f}",
              flush=True)  # fmt: skip
    for name, total in totals.items():
        for kind, (count, path) in total.findings.items():
            print(f"uncaught: {name}: {count} x {kind}\n  first input: {path}")
    inputs, uncaught = sum(t.inputs for t in totals.values()), sum(t.uncaught for t in totals.values())
    print(f"inputs: {inputs}, uncaught errors: {uncaught}, readers: {len(totals)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({name: vars(total) for name, total in totals.items()}, indent=1))
    return 1 if uncaught or inputs < arguments.runs * 0.99 else 0


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _import_libraries(engine: str) -> None:
    if engine == "atheris":
        import atheris

        names = contextlib.redirect_stderr(io.StringIO())  # of every instrumented module
        with names, atheris.instrument_imports(include=["tcs_edge"], enable_loader_override=False):
            for name in LIBRARIES:
                importlib.import_module(name)
    for name in LIBRARIES:
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
