"""Open the files of an export folder in their runtimes.

A file that a runtime cannot load becomes a `RefusedRunner`, which fails its checks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path

from tcs_edge.errors import DataError
from tcs_edge.runtimes.base import RefusedRunner, Runner, Runtime
from tcs_edge.runtimes.registry import runtimes_for
from tcs_edge.runtimes.rounding import open_rounding
from tcs_edge.specs.artifacts import Precision, is_released, onnx_file, runner_name
from tcs_edge.specs.target import NcnnArithmetic, OpenVinoArithmetic

DEVICE = "-device"  # ends the name of a runner in the arithmetic that its runtime chose on this processor


def opened_runners(
    exports: Path,
    precisions: Iterable[Precision],
    threads: int,
    at_device_precision: bool = True,
    formats: Collection[str] = (),
) -> list[Runner]:
    """Open every file in `exports` in each runtime that reads it.

    Args:
        precisions: precisions that were exported.
        formats: formats that were exported on request, such as "ncnn".
        at_device_precision: add a runner where a runtime chooses another arithmetic than float32 by itself.
    """
    runners: list[Runner] = []
    for precision in precisions:
        for runtime in runtimes_for(formats):
            path, name = exports / runtime.file(precision), runner_name(runtime.name, precision)
            if is_released(path, precision):
                runners.append(_opened(name, partial(runtime.open, path, threads)))
                runners += opened_as_deployed(runtime, path, threads, name) if at_device_precision else []
    return runners


def opened_target_runners(
    exports: Path,
    precisions: Iterable[Precision],
    threads: int,
    arithmetic: OpenVinoArithmetic,
    others: Collection[str],
    ncnn: NcnnArithmetic | None = None,
) -> list[Runner]:
    """Open the float files as they are computed on the target by a runtime that chooses its arithmetic.

    The arithmetic is simulated by rounding. int8 is left out, because its own rounding is far coarser.

    Args:
        arithmetic: what such a runtime chooses on the target; nothing is opened for "f32".
        others: precisions of other runners; an arithmetic that is one of them is not simulated.
        ncnn: what ncnn chooses on the target; None if its format was not exported.
    """
    chosen = {runtime.name: arithmetic for runtime in runtimes_for(()) if runtime.open_as_deployed}
    if ncnn == "f16":  # float16 storage of weights alone runs everywhere, and needs no simulation
        chosen["ncnn"] = ncnn
    runners: list[Runner] = []
    for precision in precisions:
        for runtime, rounded in chosen.items():
            if rounded != "f32" and rounded not in others and precision != "int8":
                name = f"{runner_name(runtime, precision)}-{rounded}"
                make = partial(open_rounding, exports / onnx_file(precision), rounded, name, threads)
                runners.append(_opened(name, make))
    return runners


def opened_as_deployed(runtime: Runtime, path: Path, threads: int, name: str) -> list[Runner]:
    """Open `path` in the arithmetic that `runtime` chooses by itself; return nothing if that is float32."""
    if runtime.open_as_deployed is None:
        return []
    try:
        runner = runtime.open_as_deployed(path, threads)
    except DataError as error:
        return [RefusedRunner(f"{name}{DEVICE}", str(error))]
    return [] if runner is None else [runner]


def only_here(
    runners: Iterable[Runner], arithmetic: OpenVinoArithmetic, ncnn: NcnnArithmetic | None = None
) -> tuple[str, ...]:
    """Return the names of the runners in an arithmetic that this processor chose and the target lacks.

    Args:
        arithmetic: arithmetic that such a runtime chooses on the target. For "f32" all those runners are listed,
            because they exist only for another arithmetic.
        ncnn: arithmetic that ncnn chooses on the target; None for any. Float16 weights are part of "f16".
    """
    names = []
    for runner in runners:
        if not runner.name.endswith(DEVICE):
            continue
        own = getattr(runner, "arithmetic", arithmetic)
        if runner.name.startswith("ncnn"):
            lacking = ncnn == "f16-weights" and own != ncnn
        else:
            lacking = arithmetic == "f32" or own != arithmetic
        names += [runner.name] if lacking else []
    return tuple(names)


def _opened(name: str, make: Callable[[], Runner]) -> Runner:
    """Return the runner of `make`, or a `RefusedRunner` if the runtime cannot load the file."""
    try:
        return make()
    except DataError as error:
        return RefusedRunner(name, str(error))
