"""Nothing below tcs-edge reports home, and nothing marks the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN_A_MODEL = """
from tcs_edge.commands.doctor import _runtimes
assert all(found.state == "ok" for found in _runtimes()), _runtimes()
"""


def test_running_models_leaves_no_device_id_in_the_home_folder(tmp_path: Path):
    hidden = {"CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", RUN_A_MODEL]
    subprocess.run(command, check=True, timeout=120, env=environment | {"HOME": str(tmp_path)})
    vendors = [path for path in tmp_path.rglob("*") if path.name in ("Microsoft", ".onnxruntime", "intel", "nncf")]
    assert vendors == []
