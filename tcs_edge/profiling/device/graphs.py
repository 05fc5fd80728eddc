"""Open exported classifiers in a runtime for repeated runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

# OpenVINO's name of the arithmetic of a precision; int8 graphs compute their float layers in float32.
ARITHMETIC = {"fp32": "f32", "fp16": "f16", "int8": "f32"}
SILENT_LOG = 4


class UnusableRuntime(Exception):
    """The runtime is not installed, or does not compute in the requested precision."""


@dataclass(frozen=True)
class Key:
    """Key of one latency: a model at img_size x img_size pixels, batch 1."""

    model: str
    img_size: int
    runtime: str
    threads: int
    precision: str = "fp32"

    def __str__(self) -> str:
        plural = "s" if self.threads > 1 else ""
        return f"{self.model} {self.img_size} px {self.runtime} {self.threads} thread{plural} {self.precision}"

    @property
    def graph_name(self) -> str:
        """File name of the graph; int8 has its own file, fp16 is an arithmetic of the runtime."""
        suffix = ".int8" if self.precision == "int8" else ""
        return f"{self.model}-{self.img_size}{suffix}.onnx"


def runtime_version(runtime: str) -> str:
    """Return the version of the installed runtime without the build suffix."""
    return version(runtime).split("+")[0]


def open_graph(path: Path, key: Key) -> Callable[[], Any]:
    """Return a function that runs the graph of `key` once, always on the same random image.

    Raises:
        UnusableRuntime: the runtime is not installed, or does not compute in the precision.
    """
    image = np.random.default_rng(0).standard_normal((1, 3, key.img_size, key.img_size), dtype=np.float32)
    try:
        return OPENERS[key.runtime](path, key, image)
    except ImportError:
        raise UnusableRuntime(f"{key.runtime} is not installed. Run pip install {key.runtime}.") from None


def _open_onnxruntime(path: Path, key: Key, image: np.ndarray) -> Callable[[], Any]:
    import onnxruntime as ort

    if key.precision == "fp16":
        raise UnusableRuntime("onnxruntime has no float16 arithmetic on CPUs. Use --runtime openvino for fp16.")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = key.threads, 1
    options.log_severity_level = SILENT_LOG
    # Otherwise its threads spin for tens of milliseconds after a visit, on the cores of the next one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image}
    return lambda: session.run(None, feed)


@cache
def _core() -> Any:
    """Return the only core of this process; see the package's runtimes/openvino/library.py for the reason."""
    import openvino as ov

    return ov.Core()


def _open_openvino(path: Path, key: Key, image: np.ndarray) -> Callable[[], Any]:
    wanted = ARITHMETIC[key.precision]
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": key.threads,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": wanted,
    }
    compiled = _core().compile_model(str(path), "CPU", config)
    came = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
    if came != wanted:
        raise UnusableRuntime(f"openvino computes in {came} on this CPU instead of {wanted}. Omit {key.precision}.")
    request = compiled.create_infer_request()
    return lambda: request.infer([image], share_inputs=True, share_outputs=True)


OPENERS = {"onnxruntime": _open_onnxruntime, "openvino": _open_openvino}
