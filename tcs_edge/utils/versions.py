"""Versions of the libraries that influence an export."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from tcs_edge.utils.version import __version__

PRODUCER = "tcs-edge"
LIBRARIES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "numpy")


def library_versions() -> dict[str, str]:
    """Return the versions of tcs-edge, Python and every installed library that influences an export."""
    versions = {PRODUCER: __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
