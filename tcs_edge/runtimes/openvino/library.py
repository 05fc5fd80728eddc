"""Import OpenVINO at its first use: it takes half a second, and reports usage unless it is told not to."""

from __future__ import annotations

from typing import Any

from tcs_edge.utils.telemetry import telemetry_off


def openvino() -> Any:
    """Return the module `openvino`."""
    with telemetry_off():
        import openvino
    return openvino
