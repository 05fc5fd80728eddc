"""What runs on the device: Python 3.9 or newer, NumPy and a runtime. Profiler bundles carry this folder as it is.

Importing it switches off what the runtimes report home, which must happen before they are imported.
"""

import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
