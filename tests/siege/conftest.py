"""Hostile input: every command ends with a documented exit code, one line and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def process(tmp_path) -> Callable[..., Any]:
    """process("gate", run, PYTHONIOENCODING="cp1252"): one command in its own process, without a terminal."""

    def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "tcs_edge", *map(str, arguments)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LC_", "CI"))}
        return subprocess.run(
            command, capture_output=True, env=environment | variables, cwd=tmp_path, timeout=60, check=False
        )

    return run
