"""Switch off the usage statistics of the runtimes for a whole process."""

from __future__ import annotations

import os
import sys


def switch_off_telemetry() -> None:
    """Switch off usage statistics of runtimes that are imported later in this process.

    Call it before a model is opened. ONNX Runtime reads the variable during its import. OpenVINO skips its
    telemetry package if the import fails.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
