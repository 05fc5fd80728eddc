"""Tests of the return of freed memory to the system with glibc."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from tcs_edge.utils.allocator import return_freed_memory

# Blocks below the size of separate mappings, with a small used block after every sixteenth that keeps the heap large.
SCATTERED = """
import psutil
from tcs_edge.utils.allocator import return_freed_memory
pins = []
blocks = []
for index in range(3200):
    blocks.append(bytearray(50_000))
    if index % 16 == 0:
        pins.append(bytearray(1_000))
del blocks
before = psutil.Process().memory_info().rss
return_freed_memory()
print((before - psutil.Process().memory_info().rss) / 1e6)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns freed memory on request")
def test_freed_blocks_between_used_ones_are_returned_to_the_system() -> None:
    returned = subprocess.run([sys.executable, "-c", SCATTERED], capture_output=True, text=True, check=True)
    assert float(returned.stdout) > 100  # of 160 MB


def test_the_c_library_is_not_loaded_outside_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: pytest.fail("the C library was loaded"))
    return_freed_memory()


def test_a_c_library_without_malloc_trim_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    return_freed_memory()
