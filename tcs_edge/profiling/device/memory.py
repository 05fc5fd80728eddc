"""Measure the peak memory of one model in its own process.

    python -m tcs_edge.profiling.device.memory GRAPH MODEL IMG_SIZE RUNTIME THREADS PRECISION

prints the growth of the process by loading and running the model, in 10^6 bytes. The process ends when its standard
input closes, so it does not outlive the process that started it.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

from .graphs import Key, open_graph
from .telemetry import switch_off_telemetry

RUNS = 3
TIMEOUT_SECONDS = 300
REASON_LENGTH = 200
STATUS = Path("/proc/self/status")


class CannotRun(Exception):
    """The model cannot be loaded or run."""


def added_memory_mb(graph: Path, key: Key) -> float:
    """Measure the growth of a process's peak resident memory by the model, in 10^6 bytes.

    Raises:
        CannotRun: the process failed or crashed, such as by instructions that the processor lacks.
    """
    package = __package__ or ""
    root = Path(__file__).resolve().parents[package.count(".") + 1]
    search = os.pathsep.join(part for part in (str(root), os.environ.get("PYTHONPATH", "")) if part)
    arguments = [str(graph), key.model, str(key.img_size), key.runtime, str(key.threads), key.precision]
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"{package}.memory", *arguments],
            stdin=reader,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": search},
            timeout=TIMEOUT_SECONDS,
        )
    finally:
        os.close(reader)
        os.close(writer)
    if done.returncode != 0:
        raise CannotRun(_reason(done.returncode, done.stderr))
    return float(done.stdout)


def _reason(exit_code: int, stderr: str) -> str:
    """Return the last error line of a failed process, without the exception's name."""
    if exit_code < 0:
        return f"crashed with signal {-exit_code}"
    said = (stderr.strip().splitlines() or [f"exit code {exit_code}"])[-1]
    return said.split(": ", 1)[-1][:REASON_LENGTH]


def _added_mb(graph: Path, key: Key) -> float:
    importlib.import_module(key.runtime)
    before = _peak_mb()
    run = open_graph(graph, key)
    for _ in range(RUNS):
        run()
    return _peak_mb() - before


def _peak_mb() -> float:
    """Return this process's peak resident memory in 10^6 bytes; on Linux getrusage includes earlier programs."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    switch_off_telemetry()
    path, model, img_size, runtime, threads, precision = sys.argv[1:]
    sys.stdout.write(f"{_added_mb(Path(path), Key(model, int(img_size), runtime, int(threads), precision)):.1f}\n")
