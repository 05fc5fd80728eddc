"""The GPU check starts on a CPU, with the internals that it imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_check.sh"


@pytest.mark.slow
def test_a_dry_run_passes_and_leaves_its_figures(tmp_path):
    chosen = {"OUT": str(tmp_path / "out"), "PARTS": "env,student-features,intake,wrapped"}
    machine = {"PY": sys.executable, "DEVICE": "cpu", "SMALL": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", SCRIPT], cwd=tmp_path, env=os.environ | machine | chosen, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert set(document["results"]) == set(chosen["PARTS"].split(","))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
