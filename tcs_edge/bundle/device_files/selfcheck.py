#!/usr/bin/env python3
"""Check on this device that the model equals the validated one, and measure its latency.

    python3 selfcheck.py [--threads N] [--seconds S] [--out selfcheck.json]

Checks every file's sha256, the preprocessing of the golden images and the logits of the golden inputs, then
measures the latency of one image. Exits 0 if all checks pass, otherwise 1. Writes the results as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import predict
from PIL import Image

MAX_PIXEL_DIFF = 1e-5  # of a normalized pixel, far below one gray level (about 0.02)
REPETITIONS = 5
WARM_UP_SECONDS = 1.0
FEWEST_RUNS = 20  # per repetition, also on slow devices


def check_files(folder: Path) -> dict:
    """Check that every file in SHA256SUMS exists and has its hash."""
    wrong, lines = [], (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    for line in lines:
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            wrong.append(name)
    return result("files", bool(lines) and not wrong, f"changed or missing: {', '.join(wrong)}" if wrong else "")


def check_preprocessing(golden: dict, steps: dict) -> dict:
    """Check that preprocessing turns the golden images into the golden inputs."""
    worst = 0.0
    for row, expected in enumerate(golden["inputs"]):
        made = predict.preprocess(Image.fromarray(golden[f"image_{row:03d}"]), steps)
        if made.shape != expected.shape:
            return result("preprocessing", False, f"inputs have shape {made.shape}, expected {expected.shape}")
        worst = max(worst, float(np.abs(made - expected).max()))
    return result("preprocessing", worst <= MAX_PIXEL_DIFF, f"largest difference {worst:.2g}, allowed {MAX_PIXEL_DIFF}")


def check_outputs(expected: np.ndarray, logits: np.ndarray, limit: float) -> dict:
    """Check the logits against the golden ones; a class may change only if rounding can explain it."""
    if logits.shape != expected.shape or not np.isfinite(logits).all():
        return result("outputs", False, f"shape {logits.shape}, or a logit is NaN or Inf")
    scale = float(np.abs(expected).max())
    difference = float(np.abs(logits - expected).max()) / scale if scale else float(np.abs(logits).max())
    rows, before, after = np.arange(len(expected)), expected.argmax(axis=1), logits.argmax(axis=1)
    margin = float((expected[rows, before] - expected[rows, after]).max())
    passed = difference <= limit and margin <= 2 * limit * scale
    flips = int((before != after).sum())
    return result("outputs", passed, f"largest difference {difference:.2g}, allowed {limit:g}; {flips} classes changed")


def result(name: str, passed: bool, detail: str) -> dict:
    """Return one check as JSON."""
    return {"name": name, "passed": bool(passed), "detail": detail}


def measure(run, seconds: float) -> dict:
    """Measure `run()` in ms: percentiles over all calls, and the lowest and highest median of a repetition."""
    repeat(run, WARM_UP_SECONDS, 3)
    parts = [repeat(run, seconds / REPETITIONS, FEWEST_RUNS) for _ in range(REPETITIONS)]
    every, medians = np.concatenate(parts), [float(np.median(part)) for part in parts]
    p50, p90, p99 = (float(np.percentile(every, share)) for share in (50, 90, 99))
    return {
        "p50_ms": p50, "p90_ms": p90, "p99_ms": p99,
        "low_ms": min(*medians, p50), "high_ms": max(*medians, p50), "runs": len(every),
    }  # fmt: skip


def repeat(run, seconds: float, fewest: int) -> np.ndarray:
    """Return the milliseconds of each call, for `seconds` and at least `fewest` calls."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < fewest or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - started))
    return np.array(times)


def process_peak_memory_mb() -> float | None:
    """Return the peak memory of this process in 10^6 bytes; None if the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def describe_machine() -> dict:
    """Describe this device."""
    return {
        "device": device_name(), "architecture": platform.machine(), "system": platform.platform(),
        "cores": os.cpu_count(), "python": platform.python_version(), "numpy": np.__version__,
        "pillow": Image.__version__,
    }  # fmt: skip


def device_name() -> str:
    """Return the system's name of the board or the processor."""
    board = Path("/proc/device-tree/model")
    if board.is_file():
        return board.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    processor = Path("/proc/cpuinfo")
    for line in processor.read_text(encoding="utf-8").splitlines() if processor.is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def examine(folder: Path, threads: int | None, seconds: float) -> dict:
    """Run the whole self-check; return one JSON document."""
    checks, rows = [check_files(folder)], []
    # Changed files are not loaded, because they are untrusted.
    if checks[0]["passed"]:
        try:
            checks += check_model(folder, threads, seconds, rows)
        except Exception as error:  # any exception of a runtime is a failed check
            checks.append(result("runs", False, f"{type(error).__name__}: {error}"))
    about = json.loads((folder / "bundle.json").read_text(encoding="utf-8")) if checks[0]["passed"] else {}
    return {
        "schema_version": 1,
        "kind": "tcs-edge selfcheck",
        "verdict": "pass" if all(check["passed"] for check in checks) else "fail",
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "target": about.get("target"),
        "model_sha256": about.get("model_sha256", []),
        "machine": describe_machine(),
        "checks": checks,
        "rows": rows,
    }


def check_model(folder: Path, threads: int | None, seconds: float, rows: list) -> list:
    """Check preprocessing and outputs against the golden ones, and append the measured latency to `rows`."""
    classifier = predict.Classifier(folder, threads)
    with np.load(folder / "golden.npz", allow_pickle=False) as stored:
        golden = dict(stored)
    limit = classifier.about["max_rel_diff"][golden_arithmetic(classifier)]
    checks = [
        check_preprocessing(golden, classifier.steps),
        check_outputs(golden["logits"], classifier.logits(golden["inputs"]), limit),
    ]
    rows.append(latency_row(classifier, golden["inputs"][:1], seconds))
    return checks


def golden_arithmetic(classifier: predict.Classifier) -> str:
    """Return the arithmetic that sets the limit of the logits; int8 kernels differ between processors."""
    return "int8" if classifier.about["precision"] == "int8" else classifier.arithmetic


def latency_row(classifier: predict.Classifier, image: np.ndarray, seconds: float) -> dict:
    """Measure the latency; return a row in the format of a latency profile."""
    about = classifier.about
    return {
        "model": about["student"], "img_size": about["img_size"], "batch": 1,
        "runtime": about["runtime"], "runtime_version": classifier.runtime_version,
        "threads": classifier.threads, "precision": about["precision"], "arithmetic": classifier.arithmetic,
        **measure(lambda: classifier.logits(image), seconds),
        "process_peak_memory_mb": process_peak_memory_mb(), "source": "measured",
    }  # fmt: skip


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Check the model in this folder on this device, and measure its latency."
    )
    parser.add_argument("--threads", type=int, help="default: the target's number of threads")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of the latency measurement")
    parser.add_argument("--out", type=Path, default=Path("selfcheck.json"), help="path of the JSON file")
    arguments = parser.parse_args()
    document = examine(predict.HERE, arguments.threads, arguments.seconds)
    arguments.out.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for check in document["checks"]:
        print(f"{'ok    ' if check['passed'] else 'FAILED'} {check['name']}  {check['detail']}")
    for row in document["rows"]:
        print(
            f"latency p50 {row['p50_ms']:.2f} ms, p90 {row['p90_ms']:.2f} ms, p99 {row['p99_ms']:.2f} ms "
            f"({row['threads']} threads, {row['runtime']} {row['runtime_version']}, {row['runs']} runs)"
        )
    print(f"verdict: {document['verdict']}\nresult: {arguments.out}")
    return 0 if document["verdict"] == "pass" else 1


if __name__ == "__main__":
    sys.exit(main())
