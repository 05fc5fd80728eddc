"""Tests of the return of freed memory to the system with glibc."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from tcs_edge.utils.allocator import keeping_freed_memory, return_freed_memory

# Blocks below the size of separate mappings, with a used block after every sixteenth that keeps the heap large. It is
# too big for the gaps that imports leave in the heap.
SCATTERED = """
import psutil
from tcs_edge.utils.allocator import return_freed_memory
pins = []
blocks = []
for index in range(3200):
    blocks.append(bytearray(50_000))
    if index % 16 == 0:
        pins.append(bytearray(30_000))
del blocks
before = psutil.Process().memory_info().rss
return_freed_memory()
print((before - psutil.Process().memory_info().rss) / 1e6)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns freed memory on request")
def test_freed_blocks_between_used_ones_are_returned_to_the_system() -> None:
    returned = subprocess.run([sys.executable, "-c", SCATTERED], capture_output=True, text=True, check=True)
    assert float(returned.stdout) > 100  # of 160 MB


# Memory of a step: blocks that are used, freed, and allocated again in the next step. A page fault is a page that the
# system has to clear.
STEPS = """
import resource, psutil
from tcs_edge.utils.allocator import keeping_freed_memory
def page_faults(steps=5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        blocks = [bytearray(20_000_000) for _ in range(8)]
        for block in blocks:
            block[::4096] = b"1" * len(block[::4096])
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
outside = page_faults()
with keeping_freed_memory():
    page_faults(1)
    kept = page_faults()
    memory = psutil.Process().memory_info().rss
print(outside, kept, (memory - psutil.Process().memory_info().rss) / 1e6, page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_steps_use_the_memory_of_earlier_steps_and_return_it_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    outside, kept, returned_mb, afterwards = map(float, done.stdout.split())
    assert kept < outside / 5
    assert returned_mb > 100  # of 160 MB
    assert afterwards > 3 * kept


def test_the_c_library_is_not_loaded_outside_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: pytest.fail("the C library was loaded"))
    return_freed_memory()
    with keeping_freed_memory():
        pass


def test_a_c_library_without_these_calls_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    return_freed_memory()
    with keeping_freed_memory():
        pass
