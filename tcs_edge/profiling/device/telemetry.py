"""Usage statistics of the runtimes, off for a whole process."""

from __future__ import annotations

import os
import sys


def switch_off_telemetry() -> None:
    """Keep runtimes that are imported later from reporting; for programs, before they open a model.

    It holds for the whole process. ONNX Runtime reads the variable during its import. OpenVINO does without a
    sender that cannot be imported.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
