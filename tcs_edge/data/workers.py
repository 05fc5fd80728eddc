"""Worker processes that decode images during training without taking its CPU cores."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from typing import Any

import torch


def worker_settings(workers: int) -> dict[str, Any]:
    """Return the arguments of a torch DataLoader with `workers` processes; 0 decodes in the main process."""
    if not workers:
        return {"num_workers": 0}
    # Forked workers start immediately and share the decoded images; macOS and Windows cannot fork safely.
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    return {"num_workers": workers, "worker_init_fn": _start_worker, "multiprocessing_context": context}


def _start_worker(_worker: int) -> None:
    """Ignore Ctrl-C, since the main process ends its workers, and use one thread per worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
