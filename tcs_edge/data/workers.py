"""Loaders whose workers decode images ahead of the training, without taking its CPU cores.

Workers are forked processes on Linux: they start at once and share the decoded images. macOS and Windows cannot
fork safely. Spawned processes would run the user's script again, and would import torch and copy the decoded images
in every epoch. So workers are threads there: Pillow and numpy work on pixels without Python's global lock.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from tcs_edge.data.parallel import BYTES_IN_FLIGHT, ByteBudget, in_threads
from tcs_edge.errors import MissingError, reason_of

PREFETCH = 2  # batches per worker, as torch

Sample = TypeVar("Sample")


def fork_context() -> BaseContext | None:
    """Return the context for forked workers; None where workers have to be threads."""
    # Processes of a multiprocessing.Pool are daemons, which cannot have children.
    if not sys.platform.startswith("linux") or multiprocessing.current_process().daemon:
        return None
    return multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Workers:
    """Workers of one loader.

    Attributes:
        count: processes or threads; 0 loads in the current thread.
        context: context of forked processes; None for threads.
        budget: memory of the images in flight, which all workers share.
    """

    count: int
    context: BaseContext | None
    budget: ByteBudget

    @classmethod
    def for_batches(cls, batches: int, asked: int) -> Workers:
        """Return `asked` workers, at most one per batch, and none for a single batch."""
        count = min(asked, batches) if batches > 1 else 0
        context = fork_context() if count else None
        return cls(count, context, ByteBudget(BYTES_IN_FLIGHT, context))


class WorkerLoader(DataLoader[Sample]):
    """A torch DataLoader that loads ahead in forked processes or in threads.

    Args:
        data: its items may be loaded in another process or thread.
        batch_bytes: size of one batch; of large batches, fewer are loaded ahead.
        settings: arguments of `DataLoader`.

    Raises:
        MissingError: while iterating, if a worker process was killed.
    """

    def __init__(self, data: Dataset[Sample], workers: Workers, batch_bytes: int, **settings: Any) -> None:
        self.workers = workers
        self.ahead = PREFETCH if PREFETCH * workers.count * batch_bytes <= BYTES_IN_FLIGHT else 1
        if workers.count and workers.context:
            settings |= {"num_workers": workers.count, "prefetch_factor": self.ahead}
            settings |= {"multiprocessing_context": workers.context, "worker_init_fn": _start_worker}
        # A generator of its own, so that iterating does not advance torch's global generator.
        super().__init__(data, generator=torch.Generator(), **settings)

    def __iter__(self) -> Iterator[Any]:
        threads = 0 if self.workers.context else self.workers.count
        return self._from_threads(threads) if threads else self._from_processes()

    def _from_processes(self) -> Iterator[Any]:
        try:
            yield from super().__iter__()
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            reason = reason_of(error).rstrip(".")
            raise MissingError(
                f"a worker stopped, often for lack of memory: {reason}. Pass fewer --workers, or --workers 0."
            ) from error

    def _from_threads(self, threads: int) -> Iterator[Any]:
        plan = self.sampler if self.batch_sampler is None else self.batch_sampler
        # Batches are put together in this thread, because torch would start threads of its own in each worker.
        for loaded in in_threads(self._load, plan, threads, self.ahead * threads):
            yield self.collate_fn(loaded)

    def _load(self, keys: Any) -> Any:
        return self.dataset[keys] if self.batch_sampler is None else [self.dataset[key] for key in keys]


def _start_worker(_worker: int) -> None:
    """Ignore Ctrl-C, since the main process ends its workers, and use one thread per worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
