"""Open the files of an export folder in their runtimes.

A file that does not open becomes a runner that fails its checks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from tcs_edge.errors import DataError
from tcs_edge.runtimes.base import RefusedRunner, Runner
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.rounding import open_rounding
from tcs_edge.specs.artifacts import is_released, onnx_file, openvino_file, runner_name
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.target import OpenVinoArithmetic


def opened_runners(exports: Path, options: CompressConfig, at_device_precision: bool = True) -> list[Runner]:
    """Every file in `exports`: ONNX Runtime, OpenVINO at float32, and OpenVINO as it runs where that is different."""
    threads = options.threads or 1
    runners: list[Runner] = []
    for precision in options.precision or ("fp32",):
        onnx_path, xml_path = exports / onnx_file(precision), exports / openvino_file(precision)
        if is_released(onnx_path, precision):
            name = runner_name("onnxruntime", precision)
            runners.append(_opened(name, partial(OrtRunner, onnx_path, threads)))
        if is_released(xml_path, precision):
            name = runner_name("openvino", precision)
            runners.append(_opened(name, partial(OpenVinoRunner, xml_path, threads, precision="f32")))
            runners += opened_device_runner(xml_path, threads, f"{name}-device") if at_device_precision else []
    return runners


def opened_target_runners(
    exports: Path, options: CompressConfig, arithmetic: OpenVinoArithmetic, proved: Collection[str]
) -> list[Runner]:
    """The float files as OpenVINO computes them on the target, by rounding; none where that is among those `proved`.

    int8 is left out: its own rounding is the coarser one by far.
    """
    if arithmetic == "f32" or arithmetic in proved:
        return []
    runners: list[Runner] = []
    for precision in options.precision or ("fp32",):
        if precision != "int8":
            name = f"{runner_name('openvino', precision)}-{arithmetic}"
            make = partial(open_rounding, exports / onnx_file(precision), arithmetic, name, options.threads or 1)
            runners.append(_opened(name, make))
    return runners


def opened_device_runner(path: Path, threads: int, name: str = "openvino-device") -> list[Runner]:
    """OpenVINO as it will run the model on a device; nothing where that is float32 again."""
    try:
        runner = OpenVinoRunner(path, threads, precision="device")
    except DataError as error:
        return [RefusedRunner(name, str(error))]
    return [] if runner.arithmetic == "f32" else [runner]


def _opened(name: str, make: Callable[[], Runner]) -> Runner:
    """A runner, or one that fails its checks where the runtime would not load the file."""
    try:
        return make()
    except DataError as error:
        return RefusedRunner(name, str(error))
