"""Decoding of many images in threads, with a limit on the memory of the images in flight."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from typing import TypeVar

from tcs_edge.utils.allocator import return_freed_memory
from tcs_edge.utils.threads import usable_cores

BYTES_IN_FLIGHT = 500_000_000  # one photo of 48 megapixels, or five of 12
# glibc keeps freed memory per thread, so large images would add up to cores times their size.
LARGE_BYTES = 20_000_000

Item = TypeVar("Item")
Result = TypeVar("Result")


class ByteBudget:
    """Bytes that threads share; a request above the whole budget runs alone."""

    def __init__(self, total: int) -> None:
        self._total, self._used = total, 0
        self._changed = Condition()

    def take(self, count: int) -> int:
        """Wait until `count` bytes are free and take them; return the number to give back."""
        count = min(count, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._used + count <= self._total)
            self._used += count
        return count

    def give_back(self, count: int) -> None:
        """Return bytes that `take` gave out."""
        with self._changed:
            self._used -= count
            self._changed.notify_all()


def map_images(work: Callable[[Item], Result], items: Sequence[Item], cost: Callable[[Item], int]) -> Generator[Result]:
    """Yield `work(item)` for every item in order, computed by one thread per usable core.

    Close the iterator (`contextlib.closing`) to drop the remaining items after an interrupt.

    Args:
        cost: bytes of memory that `work` needs for an item; all running items together stay below
            `BYTES_IN_FLIGHT`, so memory does not grow with the number of cores.
    """
    budget = ByteBudget(BYTES_IN_FLIGHT)

    def limited(item: Item) -> Result:
        taken = budget.take(cost(item))
        try:
            return work(item)
        finally:
            if taken > LARGE_BYTES:
                return_freed_memory()
            budget.give_back(taken)

    pool = ThreadPoolExecutor(usable_cores())
    try:
        yield from pool.map(limited, items)
    finally:
        pool.shutdown(cancel_futures=True)
