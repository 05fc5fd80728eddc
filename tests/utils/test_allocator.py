"""Memory that was freed goes back to the system, where the C library can be asked."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from tcs_edge.utils.allocator import return_freed_memory

# Blocks too small for pages of their own, and a small one after every sixteenth that keeps the heap's end where it is.
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked for what was freed")
def test_freed_blocks_between_used_ones_go_back_to_the_system() -> None:
    returned = subprocess.run([sys.executable, "-c", SCATTERED], capture_output=True, text=True, check=True)
    assert float(returned.stdout) > 100  # of 160 MB


def test_where_the_system_is_no_linux_the_c_library_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: pytest.fail("asked"))
    return_freed_memory()


def test_a_c_library_that_cannot_be_asked_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    return_freed_memory()
