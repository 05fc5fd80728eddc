"""Pace of an epoch: images per second, the part of the time spent waiting for images, and memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor

DATA_BOUND = 0.5  # above this share of waiting, more workers would help and a faster device would not

Rows = tuple[Tensor, Tensor, Tensor]  # images (B, 3, S, S), labels (B,), indices (B,)


@dataclass
class Pace:
    """Clock of one epoch, which starts when it is made.

    Attributes:
        processes: processes that train together, each on its part of every batch.
        waited_s: seconds until the loader had the next batch, over all batches.
    """

    processes: int = 1
    started_s: float = field(default_factory=time.perf_counter)
    waited_s: float = 0.0
    images: int = 0

    def timed(self, batches: Iterable[Rows]) -> Iterator[Rows]:
        """Pass the batches through and time the loader."""
        loader = iter(batches)
        while True:
            asked = time.perf_counter()
            rows = next(loader, None)
            self.waited_s += time.perf_counter() - asked
            if rows is None:
                return
            self.images += len(rows[1]) * self.processes
            yield rows

    def metrics(self, device: torch.device) -> dict[str, Any]:
        """Return the pace until now, as JSON values: images per second, waiting in 0..1, and memory in 10^6 bytes."""
        seconds = max(1e-9, time.perf_counter() - self.started_s)
        on_gpu = device.type == "cuda"
        memory = torch.cuda.max_memory_allocated(device) if on_gpu else psutil.Process().memory_info().rss
        return {
            "seconds": round(seconds, 3),
            "images_per_s": float(f"{self.images / seconds:.4g}"),
            "waiting": round(min(1.0, self.waited_s / seconds), 3),
            "gpu_memory_mb" if on_gpu else "memory_mb": round(memory / 1e6),
        }


def pace_text(metrics: dict[str, Any]) -> str:
    """Return the pace of an epoch for people: its rate, and which part limits it."""
    return f"{_rate(metrics)} images/s (limit: {_limit(metrics)})"


def bar_pace(metrics: dict[str, Any]) -> str:
    """Return the same in the few characters that a progress bar has, such as "812 img/s data"."""
    return f"{_rate(metrics)} img/s {_limit(metrics)}"


def _rate(metrics: dict[str, Any]) -> str:
    return (
        f"{float(metrics['images_per_s']):.3g}" if metrics["images_per_s"] < 100 else f"{metrics['images_per_s']:.0f}"
    )


def _limit(metrics: dict[str, Any]) -> str:
    return "data" if metrics["waiting"] > DATA_BOUND else "compute"
