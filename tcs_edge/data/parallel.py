"""Work on many images at once, with a limit on the memory of the images in flight."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from threading import Condition
from typing import TypeVar

from tcs_edge.utils.allocator import return_freed_memory
from tcs_edge.utils.threads import usable_cores

BYTES_IN_FLIGHT = 500_000_000  # one photo of 48 megapixels, or five of 12
# glibc keeps freed memory per thread, so large images would add up to cores times their size.
LARGE_BYTES = 20_000_000
AHEAD = 32  # items per thread that start before the result of the first one is taken

Item = TypeVar("Item")
Result = TypeVar("Result")


class ByteBudget:
    """Bytes that threads or forked processes share; a request above the whole budget runs alone.

    Args:
        processes: context of the processes that share the budget; None for threads of one process.
    """

    def __init__(self, total: int, processes: BaseContext | None = None) -> None:
        self._total = total
        self._used = processes.RawValue("q", 0) if processes else ctypes.c_longlong(0)
        self._changed = processes.Condition() if processes else Condition()

    def take(self, count: int) -> int:
        """Wait until `count` bytes are free and take them; return the number to give back."""
        count = min(count, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._used.value + count <= self._total)
            self._used.value += count
        return count

    def give_back(self, count: int) -> None:
        """Return bytes that `take` gave out."""
        with self._changed:
            self._used.value -= count
            self._changed.notify_all()

    @contextmanager
    def held(self, count: int) -> Iterator[None]:
        """Take `count` bytes for the block; afterwards, return the memory of a large image to the system."""
        if not count:  # pixels in memory
            yield
            return
        taken = self.take(count)
        try:
            yield
        finally:
            if taken > LARGE_BYTES:
                return_freed_memory()
            self.give_back(taken)


def map_images(work: Callable[[Item], Result], items: Sequence[Item], cost: Callable[[Item], int]) -> Generator[Result]:
    """Yield `work(item)` for every item in order, computed by one thread per usable core.

    Close the iterator (`contextlib.closing`) to drop the remaining items after an interrupt.

    Args:
        cost: bytes of memory that `work` needs for an item; all running items together stay below
            `BYTES_IN_FLIGHT`, so memory does not grow with the number of cores.
    """
    budget = ByteBudget(BYTES_IN_FLIGHT)

    def limited(item: Item) -> Result:
        with budget.held(cost(item)):
            return work(item)

    cores = usable_cores()
    yield from in_threads(limited, items, cores, AHEAD * cores)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int) -> Generator[Result]:
    """Yield `work(item)` for every item in order, computed by `threads` threads.

    Args:
        ahead: items that are started before the first result is taken; it bounds the memory of waiting results.
    """
    pool = ThreadPoolExecutor(threads)
    started: deque[Future[Result]] = deque()
    try:
        for item in items:
            started.append(pool.submit(work, item))
            if len(started) > ahead:
                yield started.popleft().result()
        while started:
            yield started.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
