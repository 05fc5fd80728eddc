"""Registry of the runtimes: exports are validated and timed in each of them.

To add a runtime, describe it as a `Runtime` in a module or folder beside this one, and add its line here.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePath

from tcs_edge.runtimes import litert, ncnn, onnxruntime, openvino
from tcs_edge.runtimes.base import Runtime

RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": onnxruntime.RUNTIME,
    "openvino": openvino.RUNTIME,
    "ncnn": ncnn.RUNTIME,
    "litert": litert.RUNTIME,
}


def runtimes_for(formats: Collection[str]) -> tuple[Runtime, ...]:
    """Return the runtimes that every export is for, and those that `formats` names."""
    return tuple(runtime for runtime in RUNTIMES.values() if not runtime.on_request or runtime.name in formats)


def runtime_for(path: PurePath) -> Runtime | None:
    """Return the first runtime whose models have the suffix of `path`; None for any other file."""
    return next((each for each in RUNTIMES.values() if each.file("fp32").suffix == path.suffix), None)
