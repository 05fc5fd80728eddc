"""No usage statistics: the libraries below us that report home are switched off."""

from __future__ import annotations

import os
import sys


def switch_off() -> None:
    """Switch telemetry off for the rest of this process and its children; run it before the libraries load.

    ONNX Runtime sends events by default and writes a device id into the home folder as soon as it is
    imported; its environment variable is the only switch that comes early enough.

    OpenVINO and NNCF both import `openvino_telemetry` optionally and fall back to a stub without it.
    Consent is on by default there, and merely importing nncf writes a client id into the home folder, so
    it is made unimportable. No consent file is written: what the user told Intel stays as it is.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # None is Python's own way to say "importing this raises ModuleNotFoundError".
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
