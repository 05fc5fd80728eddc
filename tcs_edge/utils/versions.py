"""Versions of the libraries that influence an export."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from tcs_edge.utils.version import __version__

PRODUCER = "tcs-edge"
LIBRARIES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "numpy")
# Libraries of a format on request.
OF_FORMATS = {"ncnn": ("ncnn", "pnnx"), "litert": ("ai-edge-litert", "litert-torch", "ai-edge-quantizer")}


def library_versions(formats: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of tcs-edge, Python and every installed library that influences an export.

    Args:
        formats: exported formats, for the libraries of formats on request.
    """
    versions = {PRODUCER: __version__, "python": platform.python_version()}
    for name in (*LIBRARIES, *(name for one in formats for name in OF_FORMATS.get(one, ()))):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
