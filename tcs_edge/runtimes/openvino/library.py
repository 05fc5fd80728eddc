"""Import OpenVINO at its first use, because the import takes half a second."""

from __future__ import annotations

from typing import Any

from tcs_edge.utils.telemetry import telemetry_off


def openvino() -> Any:
    """Return the module `openvino`, imported without usage statistics."""
    with telemetry_off():
        import openvino
    return openvino
