"""Import ncnn at its first use, find pnnx, and try a model in another process."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from tcs_edge.errors import DataError, MissingError
from tcs_edge.runtimes.programs import failure_of, run_program
from tcs_edge.utils.installed import is_installed
from tcs_edge.utils.versions import OF_FORMATS

PROBE = Path(__file__).with_name("probe.py")
PROBE_SECONDS = 120
UNKNOWN_LAYER = re.compile(r"layer (\S+) not exists or registered")
INSTALL = "Install it with: pip install 'tcs-edge[ncnn]'"

DeviceArithmetic = Literal["f16", "f16-weights"]


class UnknownLayer(DataError):
    """The model has a layer that ncnn does not know; `layer` is its type."""

    def __init__(self, path: Path, layer: str) -> None:
        super().__init__(f"{path} has a layer of type {layer}, which ncnn does not know. Choose another --student.")
        self.layer = layer


def require_ncnn() -> None:
    """Check that the converter and the runtime are installed, without importing them.

    Raises:
        MissingError: one of the two packages is missing.
    """
    for package in OF_FORMATS["ncnn"]:
        if not is_installed(package):
            raise MissingError(f"the package {package} is not installed, which --format ncnn needs. {INSTALL}")


def ncnn() -> Any:
    """Return the module `ncnn`.

    Raises:
        MissingError: it is not installed, or cannot be loaded.
    """
    try:
        import ncnn
    except ImportError as error:
        raise MissingError(f"the package ncnn cannot be used ({error}). {INSTALL}") from error
    return ncnn


def pnnx_program() -> Path:
    """Return the path of pnnx's program. Its Python module is not imported, because that imports torch.

    Raises:
        MissingError: it is not installed.
    """
    require_ncnn()
    spec = find_spec("pnnx")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    return folder / ("pnnx.exe" if sys.platform == "win32" else "pnnx")


def require_runs(param: Path, side: int | None) -> int | None:
    """Load a model in another process and run it on a black image; return its number of logits.

    Args:
        side: pixels of its input; None loads the model only, and returns None.

    Raises:
        UnknownLayer: a layer that ncnn does not know.
        DataError: ncnn refuses the model, crashes, or takes longer than `PROBE_SECONDS`.
        MissingError: ncnn is not installed.
    """
    require_ncnn()
    command = [sys.executable, str(PROBE), str(param), str(side or 0)]
    try:
        done = run_program(command, PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        raise DataError(f"{param}: ncnn took more than {PROBE_SECONDS} s for one image. Export it again.") from None
    if done.returncode == 0:
        return int(done.stdout.split()[-1]) if side else None
    if found := UNKNOWN_LAYER.search(done.stderr):
        raise UnknownLayer(param, found[1])
    reason = failure_of(done, "it refused the model (code {})")
    raise DataError(f"{param} cannot be loaded by ncnn: {reason}. Export it again.")


@cache
def device_arithmetic() -> DeviceArithmetic:
    """Return the arithmetic that ncnn chooses by itself on this processor.

    "f16": on Arm with float16 arithmetic (Cortex-A55, A75 and later), where ncnn stores and adds in float16.
    "f16-weights": elsewhere, where the weights of fully connected layers are stored in float16 at most.
    """
    return "f16" if ncnn().cpu_support_arm_asimdhp() else "f16-weights"
