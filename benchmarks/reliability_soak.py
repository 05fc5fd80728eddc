"""Many small runs in one process by the Python API: memory, handles, threads and temporary files must not grow.

    python benchmarks/reliability_soak.py FOLDER RUNS

FOLDER has the inputs of `reliability_lab.make_inputs`. Prints one JSON line per run. Linux only.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

SOAK = "runs in one process"
WARM = 10  # runs until all libraries have their pools
MAX_GROWTH_MB = 20.0  # of the resident memory, from the runs after the warm ones to the last ones


def measured_runs(folder: Path, runs: int) -> None:
    """Run `compress` many times in this process; print what the process holds after each."""
    os.chdir(folder)
    import tcs_edge

    for number in range(1, runs + 1):
        shutil.rmtree("soak/run", ignore_errors=True)
        run = tcs_edge.compress(
            "photos", target="raspberrypi4", teacher="timm/test_vit", teacher_weights="teacher.safetensors",
            teacher_img_size=64, student="test_resnet", student_init="random", img_size=32, epochs=3, batch_size=6,
            lr=1e-2, device="cpu", threads=1, workers=0, cache_dir="soak/cache", out="soak/run",
        )  # fmt: skip
        assert run.passed
        del run
        gc.collect()
        print(json.dumps({"run": number, **held()}), flush=True)


def held() -> dict[str, float]:
    """Return what this process holds: resident memory in MB, and counts of handles, threads and temporary files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
        "handles": entries("/proc/self/fd"),
        "threads": entries("/proc/self/task"),
        "temporary_files": entries(os.environ["TMPDIR"]),
    }


def entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def soak(folder: Path, runs: int, warm: int = WARM) -> tuple[str, str, float]:
    """Measure `runs` runs in a new process; return the verdict, the figures as JSON, and the duration in seconds.

    Args:
        warm: number of first runs that do not count; as many runs after them, and the last ones, are compared.
    """
    temporary = folder / "soak-tmp"
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, __file__, str(folder), str(runs)], env=environment, capture_output=True, text=True, check=False
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"run"')]
    if done.returncode or len(rows) != runs:
        return "traceback", (done.stderr.strip().splitlines() or ["no output"])[-1], time.monotonic() - start
    figures = {"runs": runs, "warm": warm, "early": summary(rows[warm : 2 * warm]), "late": summary(rows[-warm:])}
    return "same" if steady(figures) else "wrong", json.dumps(figures), time.monotonic() - start


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of the memory and the maxima of the counts."""
    return {
        name: statistics.median(row[name] for row in rows) if name == "memory_mb" else max(row[name] for row in rows)
        for name in ("memory_mb", "handles", "threads", "temporary_files")
    }


def steady(figures: dict) -> bool:
    """Return True if nothing grew from the early runs to the late ones."""
    early, late = figures["early"], figures["late"]
    counts = all(late[name] <= early[name] for name in ("handles", "threads", "temporary_files"))
    return counts and late["memory_mb"] <= early["memory_mb"] + MAX_GROWTH_MB


def soak_lines(figures: dict) -> list[str]:
    """Return the figures as rows of a Markdown table."""
    early, late = figures["early"], figures["late"]
    names = {"memory_mb": "resident memory, MB", "handles": "open handles", "threads": "threads",
             "temporary_files": "entries in the temporary folder"}  # fmt: skip
    return [f"| {names[key]} | {early[key]:.0f} | {late[key]:.0f} |" for key in names]


if __name__ == "__main__":
    measured_runs(Path(sys.argv[1]), int(sys.argv[2]))
