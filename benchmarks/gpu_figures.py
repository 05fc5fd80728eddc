"""Settings, figures and timing of the GPU check."""

from __future__ import annotations

import datetime
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STARTED = time.monotonic()
DEVICE, SMALL = os.environ.get("DEVICE", "cuda"), os.environ.get("SMALL") == "1"
CUDA = DEVICE == "cuda"
OUT, WORK = Path(os.environ["OUT"]), Path(os.environ["WORK"])
BUDGET_S = float(os.environ.get("BUDGET", "440"))
WANTED = set(filter(None, os.environ.get("PARTS", "").split(",")))

SIZE, BATCH, STEPS = (64, 8, 3) if SMALL else (224, 256, 20)
# Cached targets of the methods: training images, coordinates, classes.
ROWS, DIMS, CLASSES = (2000, 384, 20) if SMALL else (100_000, 384, 100)
FEW_ROWS = 500
STUDENT = "mobilenetv3_small_050" if SMALL else "mobilenetv3_large_100"
TEACHER = "vit_tiny_patch16_224" if SMALL else "vit_small_patch14_dinov2"
# The image folder.
TRAIN_IMAGES, HELD_OUT_IMAGES, FOLDER_CLASSES = (120, 30, 3) if SMALL else (3000, 200, 10)
FOLDER_BATCH, WORKERS = (16, 0) if SMALL else (64, 12)
AMP = "bf16" if CUDA else "no"
PRECISIONS = ("no", "bf16", "fp16") if CUDA else ("no", "bf16")
# Limits of TCS against another method: step rate at least, peak memory at most.
RATE_LIMITS = {"ce": 0.95, "kd": 1.8}
MEMORY_LIMITS = {"ce": 1.05, "kd": 0.6}

Rows = tuple[Tensor, Tensor, Tensor]  # images (B, 3, S, S), labels (B,), indices (B,)


@dataclass(frozen=True)
class Figure:
    """One printed line; `ok` is None for a figure without a limit."""

    name: str
    value: str
    note: str
    ok: bool | None

    def line(self) -> str:
        flag = {True: "ok", False: "FAIL", None: ""}[self.ok]
        return f"{flag:5}{self.name:58}{self.value:>14}  {self.note}"


@dataclass(frozen=True)
class Part:
    """A group of checks; `needs_s` is the time below which it is skipped."""

    name: str
    needs_s: float
    run: Callable[[], Any]


@dataclass(frozen=True)
class Span:
    """When a part ran, in local time as nvidia-smi prints it."""

    part: str
    start: datetime.datetime
    end: datetime.datetime


PARTS: list[Part] = []
FIGURES: list[Figure] = []
RESULTS: dict[str, Any] = {}
SPANS: list[Span] = []


def part(name: str, needs_s: float) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a function as a part of this check; its result goes into gpu_check.json."""

    def register(run: Callable[[], Any]) -> Callable[[], Any]:
        PARTS.append(Part(name, needs_s, run))
        return run

    return register


def show(name: str, value: object, note: str = "", ok: bool | None = None) -> None:
    """Print and keep one figure."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    FIGURES.append(Figure(name, text, note, ok))
    print(FIGURES[-1].line(), flush=True)


def failed(name: str, error: BaseException) -> dict[str, str]:
    """Show an exception as a failed figure; its traceback goes to stderr."""
    show(name, type(error).__name__, str(error).replace("\n", " ")[:300], ok=False)
    traceback.print_exc(limit=-4)
    return {"error": repr(error)[:500]}


def skipped(name: str, error: ModuleNotFoundError) -> dict[str, str]:
    """Show a part as skipped for want of a package; a module that tcs-edge itself lacks is a failure."""
    if not error.name or error.name.startswith("tcs_edge"):
        return failed(name, error)
    show(name, "skipped", f"not installed: {error.name}")
    return {"skipped": error.name}


def elapsed() -> float:
    """Seconds since the start."""
    return time.monotonic() - STARTED


def left() -> float:
    """Seconds left of the budget."""
    return BUDGET_S - elapsed()


def sync() -> None:
    """Wait for the GPU."""
    if CUDA:
        torch.cuda.synchronize()


def seconds(run: Callable[[], object], repeat: int) -> float:
    """Time of `repeat` calls, with the GPU's work included."""
    sync()
    started = time.perf_counter()
    for _ in range(repeat):
        run()
    sync()
    return time.perf_counter() - started


def shown(values: list[float], digits: int = 4) -> str:
    """Numbers in one short line."""
    return " ".join(f"{value:.{digits}g}" for value in values)
