"""Loaders whose workers decode images ahead of the training, without taking its CPU cores.

Workers are forked processes on Linux: they start at once and share the decoded images. macOS and Windows cannot
fork safely. Spawned processes would run the user's script again, and would import torch and copy the decoded images
in every epoch. So workers are threads there: Pillow and numpy work on pixels without Python's global lock.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from tcs_edge.data.parallel import BYTES_IN_FLIGHT, ByteBudget, in_threads
from tcs_edge.errors import MissingError
from tcs_edge.utils.processes import end_with_parent
from tcs_edge.utils.ranks import current
from tcs_edge.utils.stop import leave_reports_to

PREFETCH = 2  # batches per worker, as torch
SHARED_MEMORY = "/dev/shm"  # workers hand over their batches there; Docker gives it 64 MB
SPARE_BATCHES = 2  # one in use, one that is being written
SOCKET = "/pymp-12345678/listener-12345678"  # in the temporary folder: a worker hands over its batches there
LONGEST_SOCKET_PATH = 107  # bytes, in Linux
# Errors at the start of a process: too little memory, too many processes or open files, no shared memory.
START_ERRORS = {errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EROFS, errno.EACCES}

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
    def for_batches(cls, batches: int, asked: int, batch_bytes: int = 0, threads: bool = True) -> Workers:
        """Return `asked` workers, at most one per batch, and none for a single batch.

        Processes that train together on one machine share the workers.

        Without shared memory for the batches of processes, or room for the paths of their sockets, workers are threads.

        Args:
            batch_bytes: size of one batch.
            threads: False for work that threads cannot share; without processes there are no workers then.
        """
        count = min(current().share(asked), batches) if batches > 1 else 0
        shared_bytes = (batches_ahead(count, batch_bytes) * count + SPARE_BATCHES) * batch_bytes
        context = fork_context() if count and shared_bytes <= free_shared_memory() and sockets_fit() else None
        budget = None
        if context:
            try:
                budget = ByteBudget(BYTES_IN_FLIGHT, context)
            except OSError:  # no semaphores
                context = None
        return cls(count if context or threads else 0, context, budget or ByteBudget(BYTES_IN_FLIGHT))


def batches_ahead(count: int, batch_bytes: int) -> int:
    """Return the number of batches that each of `count` workers loads ahead; fewer if they are large."""
    return PREFETCH if PREFETCH * count * batch_bytes <= BYTES_IN_FLIGHT else 1


def free_shared_memory() -> int:
    """Return the free bytes of the system's shared memory; 0 if there is none."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return 0


def sockets_fit() -> bool:
    """Return True if the temporary folder has room for sockets; batches are lost where its path is too long."""
    return len(os.fsencode(tempfile.gettempdir() + SOCKET)) <= LONGEST_SOCKET_PATH


class WorkerLoader(DataLoader[Sample]):
    """A torch DataLoader that loads ahead in forked processes or in threads.

    Args:
        data: its items may be loaded in another process or thread.
        batch_bytes: size of one batch; of large batches, fewer are loaded ahead.
        persistent: keep the processes for the next iteration, until `close`.
        settings: arguments of `DataLoader`.

    Raises:
        MissingError: while iterating, if a worker process was killed.
    """

    def __init__(
        self, data: Dataset[Sample], workers: Workers, batch_bytes: int, persistent: bool = False, **settings: Any
    ) -> None:
        self.workers = workers
        self.ahead = batches_ahead(workers.count, batch_bytes)
        if workers.count and workers.context:
            settings |= {"num_workers": workers.count, "prefetch_factor": self.ahead, "persistent_workers": persistent}
            settings |= {"multiprocessing_context": workers.context, "worker_init_fn": _start_worker}
        # A generator of its own, so that iterating does not advance torch's global generator.
        super().__init__(data, generator=torch.Generator(), **settings)

    def close(self) -> None:
        """End the processes that iterating has kept."""
        self._iterator = None  # its finalizer ends them

    def __iter__(self) -> Iterator[Any]:
        threads = 0 if self.workers.context else self.workers.count
        return self._from_threads(threads) if threads else self._from_processes()

    def _from_processes(self) -> Iterator[Any]:
        try:
            yield from super().__iter__()
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise _stopped(error) from error
        except OSError as error:
            if error.errno not in START_ERRORS:
                raise
            raise _stopped(error) from error

    def _from_threads(self, threads: int) -> Iterator[Any]:
        plan = self.sampler if self.batch_sampler is None else self.batch_sampler
        # Batches are put together in this thread, because torch would start threads of its own in each worker.
        for loaded in in_threads(self._load, plan, threads, self.ahead * threads):
            yield self.collate_fn(loaded)

    def _load(self, keys: Any) -> Any:
        return self.dataset[keys] if self.batch_sampler is None else [self.dataset[key] for key in keys]


def _stopped(error: Exception) -> MissingError:
    """Return the error for a worker process that cannot start or go on; torch puts a traceback into the message."""
    lines = str(error).strip().splitlines()
    reason = lines[-1].removeprefix("RuntimeError: ") if "Traceback" in str(error) else " ".join(lines)
    return MissingError(
        f"a worker stopped, often for lack of memory: {reason.rstrip('.')}. Pass fewer --workers, or --workers 0. "
        "In a container, give it more shared memory: docker run --shm-size=1g."
    )


def _start_worker(_worker: int) -> None:
    """Leave Ctrl-C, SIGHUP and the report of a stop to the main process, and use one thread per worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    owner = parent.pid if parent and parent.pid else os.getppid()
    end_with_parent(owner)
    leave_reports_to(owner)
    torch.set_num_threads(1)
