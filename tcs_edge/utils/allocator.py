"""Return of freed memory to the system.

Memory that a teacher's pass and a fit have freed stays in the heap of the C library. Its free blocks are too small or
too scattered for training. They add to the memory of the process until the C library returns them.
"""

from __future__ import annotations

import ctypes
import sys


def return_freed_memory() -> None:
    """Make glibc return freed memory to the system; other C libraries have no such call, so nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(ctypes.c_size_t(0))
