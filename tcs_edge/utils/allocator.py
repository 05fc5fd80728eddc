"""Giving freed memory back to the system.

What a teacher's pass and a fit free stays with the process as holes of the C library's heap, too small or too
scattered for what training asks for: it comes on top of the training's own memory until somebody asks for it.
"""

from __future__ import annotations

import ctypes
import sys


def return_freed_memory() -> None:
    """Ask the C library to return what was freed. Only glibc can be asked; elsewhere nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(ctypes.c_size_t(0))
