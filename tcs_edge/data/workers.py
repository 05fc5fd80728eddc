"""Processes that decode images beside the training, and stay out of its way."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from typing import Any

import torch


def worker_settings(workers: int) -> dict[str, Any]:
    """Arguments of a torch DataLoader with `workers` processes; 0 decodes in the main process."""
    if not workers:
        return {"num_workers": 0}
    # Forked workers start at once and share the decoded images; macOS and Windows cannot fork safely.
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    return {"num_workers": workers, "worker_init_fn": _start_worker, "multiprocessing_context": context}


def _start_worker(_worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers, and the other cores to the neighbors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
