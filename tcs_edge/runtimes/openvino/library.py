"""Import OpenVINO at its first use, because the import takes half a second."""

from __future__ import annotations

from functools import cache
from typing import Any

from tcs_edge.utils.telemetry import telemetry_off


def openvino() -> Any:
    """Return the module `openvino`, imported without usage statistics."""
    with telemetry_off():
        import openvino
    return openvino


@cache
def core() -> Any:
    """Return the only OpenVINO core of this process, which lives as long as the process.

    On x86 the CPU plugin of a core gives its thread a stack for signal handlers. If two cores are destroyed in the
    order of their creation, the thread keeps the freed stack of the first. The next signal, such as Ctrl-C, then
    crashes the process (openvino 2026.4).
    """
    return openvino().Core()
