"""Inspect the installation: packages, runtimes, devices, cache and teachers."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from tcs_edge.errors import TcsEdgeError
from tcs_edge.runtimes.base import Runner
from tcs_edge.runtimes.registry import RUNTIMES
from tcs_edge.teachers.cache import default_cache_dir
from tcs_edge.teachers.load import is_cached
from tcs_edge.teachers.registry import TEACHERS
from tcs_edge.training.accelerator import available_devices
from tcs_edge.utils.threads import free_cores, usable_cores
from tcs_edge.utils.version import __version__

State = Literal["ok", "absent", "broken"]

PACKAGES = (
    "torch", "torchvision", "timm", "onnx", "onnxscript",
    *(runtime.package or runtime.name for runtime in RUNTIMES.values()),
    "nncf", "accelerate", "safetensors", "scipy", "scikit-learn",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One inspected item; only "broken" prevents tcs-edge from working."""

    name: str
    state: State
    detail: str


@dataclass(frozen=True)
class Health:
    """All findings of `examine`."""

    rows: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """True if nothing is broken."""
        return all(row.state != "broken" for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        rows = [asdict(row) for row in self.rows]
        return {"schema_version": 1, "usable": self.usable, "findings": rows}


def examine() -> Health:
    """Inspect packages, runtimes, devices, the cache and the teachers."""
    free_gb = shutil.disk_usage(_existing(default_cache_dir())).free / 1e9
    rows = [
        Finding("tcs-edge", "ok", f"{__version__} on Python {platform.python_version()}, {platform.machine()}"),
        *(_package(name) for name in PACKAGES),
        *_runtimes(),
        Finding("devices", "ok", ", ".join(available_devices())),
        Finding("cores", "ok", f"{free_cores()} free of {usable_cores()}"),
        Finding("cache", "ok", f"{default_cache_dir()}, {free_gb:.0f} GB free"),
        *(_teacher(name) for name in TEACHERS),
    ]
    return Health(tuple(rows))


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "broken", f"not installed. Run pip install {name}")


def _teacher(name: str) -> Finding:
    if is_cached(name):
        return Finding(f"teacher {name}", "ok", "weights are cached")
    return Finding(f"teacher {name}", "absent", "weights will be downloaded, or pass --teacher-weights")


def _runtimes() -> list[Finding]:
    """Run a tiny model in every runtime and check the result."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        onnx.save(_probe_model(), path)
        return [_runs(f"runs {runtime.name}", partial(runtime.open, path, 1)) for runtime in RUNTIMES.values()]


def _runs(name: str, make: Callable[[], Runner]) -> Finding:
    images = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    try:
        with make() as runner:
            right = np.allclose(runner.run(images), images.reshape(1, -1))
    except TcsEdgeError as error:
        return Finding(name, "broken", str(error))
    return Finding(name, "ok" if right else "broken", "a small model" if right else "wrong results. Reinstall it")


def _probe_model() -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 2, 2])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 12])
    graph = helper.make_graph([helper.make_node("Flatten", ["image"], ["logits"])], "probe", [image], [logits])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
