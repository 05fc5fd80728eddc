"""Checks and rates of tcs-edge on one device; `gpu_check.sh` sets the environment and runs this.

Every part is a function with `@part`: it prints figures, and judges those that have a limit. Rates and memory are
judged on a GPU only. Parts use the training loop with random batches; those of `gpu_folder` make an image folder.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from gpu_figures import (
    CUDA,
    FIGURES,
    OUT,
    PARTS,
    RESULTS,
    SPANS,
    WANTED,
    Span,
    elapsed,
    failed,
    left,
    show,
    skipped,
)

# Importing a module registers its parts; they run in this order.
PART_MODULES = ("gpu_rates", "gpu_results", "gpu_folder")


def main() -> int:
    """Run the parts that were asked for; exit code 1 when a figure failed."""
    for name in PART_MODULES:
        importlib.import_module(name)
    for one in PARTS:
        if WANTED and one.name not in WANTED:
            continue
        if left() < one.needs_s:
            show(one.name, "skipped", f"{left():.0f} s left, needs {one.needs_s:.0f} s")
            continue
        print(f"-- {one.name} ({elapsed():.0f} s)", flush=True)
        start = datetime.datetime.now()
        try:
            RESULTS[one.name] = one.run()
        except ModuleNotFoundError as error:
            RESULTS[one.name] = skipped(one.name, error)
        except Exception as error:
            RESULTS[one.name] = failed(one.name, error)
        SPANS.append(Span(one.name, start, datetime.datetime.now()))
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
        save()
    return summarize()


def save() -> None:
    """Write all results so far."""
    document = {
        "schema_version": 1,
        "results": RESULTS,
        "figures": [vars(figure) for figure in FIGURES],
        "parts": [vars(span) for span in SPANS],
    }
    (OUT / "gpu_check.json").write_text(json.dumps(document, indent=1, default=str))


def summarize() -> int:
    """Print GPU utilization by part and the failed figures; return the exit code."""
    print("\n== summary")
    samples = list(utilization(OUT / "util.csv"))
    for span in SPANS:
        inside = [use for at, use in samples if span.start <= at <= span.end]
        if inside:
            took = (span.end - span.start).total_seconds()
            mean, median = statistics.mean(inside), statistics.median(inside)
            print(f"GPU utilization in {span.part:16} mean {mean:5.1f} %  median {median:5.1f} %  ({took:.1f} s)")
    failures = [figure for figure in FIGURES if figure.ok is False]
    print(f"{len(FIGURES)} figures, {len(failures)} failed, {elapsed():.0f} s")
    for figure in failures:
        print("FAIL", figure.name, figure.value, figure.note[:200])
    return 1 if failures else 0


def utilization(path: Path) -> Iterator[tuple[datetime.datetime, float]]:
    """Samples of nvidia-smi: time, and utilization in per cent; none on a machine without it."""
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            stamp, use, _ = (field.strip() for field in line.split(","))
            yield datetime.datetime.strptime(stamp, "%Y/%m/%d %H:%M:%S.%f"), float(use)


if __name__ == "__main__":
    sys.exit(main())
