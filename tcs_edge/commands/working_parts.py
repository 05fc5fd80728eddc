"""Inspect the parts that run: runtimes and the cache; with the extra `train` also devices, cores and teachers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from tcs_edge.errors import MissingError, TcsEdgeError
from tcs_edge.runtimes.base import Runner, Runtime
from tcs_edge.runtimes.registry import RUNTIMES
from tcs_edge.utils.cache_folder import default_cache_dir
from tcs_edge.utils.installed import extra_of, imports_explained, is_installed

Part = tuple[str, Literal["ok", "absent", "broken"], str]  # name, state, detail


def working_parts() -> Iterator[Part]:
    """Yield name, state and detail of runtimes, devices, cores, the cache and the teachers."""
    yield from _runtimes()
    yield from (_on_request(runtime) for runtime in RUNTIMES.values() if runtime.on_request)
    yield _cache()
    if is_installed("torch"):
        yield from _of_training()


def _of_training() -> Iterator[Part]:
    """Yield devices, cores and teachers; their modules import torch."""
    from tcs_edge.teachers.load import is_cached
    from tcs_edge.teachers.registry import TEACHERS
    from tcs_edge.training.accelerator import available_devices
    from tcs_edge.utils.threads import free_cores, usable_cores

    yield "devices", "ok", ", ".join(available_devices())
    yield "cores", "ok", f"{free_cores()} free of {usable_cores()}"
    for name in TEACHERS:
        cached = is_cached(name)
        state: Literal["ok", "absent"] = "ok" if cached else "absent"
        detail = "weights are cached" if cached else "weights will be downloaded, or pass --teacher-weights"
        yield f"teacher {name}", state, detail


def _cache() -> Part:
    try:
        folder = default_cache_dir()
    except MissingError as error:
        return "cache", "broken", str(error)
    free_gb = shutil.disk_usage(_existing(folder)).free / 1e9
    return "cache", "ok", f"{folder}, {free_gb:.0f} GB free"


def _runtimes() -> list[Part]:
    """Run a tiny model in every runtime and check the result."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        onnx.save(_probe_model(), path)
        always = [runtime for runtime in RUNTIMES.values() if not runtime.on_request]
        return [_runs(runtime.name, partial(runtime.open, path, 1)) for runtime in always]


def _on_request(runtime: Runtime) -> Part:
    """Inspect the packages of a runtime for a format on request."""
    try:
        if runtime.require:
            runtime.require()
    except TcsEdgeError as error:
        return f"format {runtime.name}", "absent", str(error)
    return f"format {runtime.name}", "ok", f"{runtime.name} {version(runtime.package or runtime.name)}"


def _runs(runtime: str, make: Callable[[], Runner]) -> Part:
    name = f"runs {runtime}"
    images = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    try:
        with imports_explained(), make() as runner:
            right = np.allclose(runner.run(images), images.reshape(1, -1))
    except TcsEdgeError as error:
        optional = extra_of(runtime) and not is_installed(runtime) and not is_installed("torch")
        return name, "absent" if optional else "broken", str(error)
    return name, "ok" if right else "broken", "a small model" if right else "wrong results. Reinstall it"


def _probe_model() -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 2, 2])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 12])
    graph = helper.make_graph([helper.make_node("Flatten", ["image"], ["logits"])], "probe", [image], [logits])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
