"""Import LiteRT at its first use, and try a model in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tcs_edge.errors import DataError, MissingError
from tcs_edge.runtimes.programs import failure_of, run_program
from tcs_edge.utils.installed import is_installed
from tcs_edge.utils.versions import OF_FORMATS

PROBE = Path(__file__).with_name("probe.py")
PROBE_SECONDS = 120
INSTALL = "Install it with: pip install 'tcs-edge[litert]'"


def require_litert() -> None:
    """Check that the converter and the runtime are installed, without importing them.

    Raises:
        MissingError: one of the packages is missing.
    """
    for package in OF_FORMATS["litert"]:
        _require(package)


def _require(package: str) -> None:
    if not is_installed(package.replace("-", "_")):
        raise MissingError(f"the package {package} is not installed, which --format litert needs. {INSTALL}")


def interpreter(content: bytes, threads: int) -> Any:
    """Return LiteRT's interpreter of a model, ready to run.

    Raises:
        MissingError: LiteRT is not installed, or cannot be loaded.
        ValueError, RuntimeError: LiteRT refuses the model.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingError(f"the package ai-edge-litert cannot be used ({error}). {INSTALL}") from error
    with _notices_dropped():
        loaded = Interpreter(model_content=content, num_threads=threads)
        loaded.allocate_tensors()
    return loaded


@contextmanager
def _notices_dropped() -> Iterator[None]:
    """Drop what LiteRT's C++ code prints on stderr about its delegate; Python's own output is not affected."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def require_runs(path: Path) -> int:
    """Load a model in another process and run it on a black image; return its number of logits.

    Raises:
        DataError: LiteRT refuses the model, crashes, or takes longer than `PROBE_SECONDS`.
        MissingError: LiteRT is not installed.
    """
    _require("ai-edge-litert")
    # -P: the modules beside the program must not replace others of the same name.
    command = [sys.executable, "-P", str(PROBE), str(path)]
    try:
        done = run_program(command, PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        raise DataError(f"{path}: LiteRT took more than {PROBE_SECONDS} s for one image. Export it again.") from None
    if done.returncode:
        raise DataError(f"{path} cannot be run by LiteRT: {failure_of(done).rstrip('.')}. Export it again.")
    return int(done.stdout.split()[-1])
