"""Inspect the installation: packages, runtimes, devices, cache and teachers."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from tcs_edge.utils.installed import extra_of, import_problem, is_installed, module_of
from tcs_edge.utils.version import __version__

State = Literal["ok", "absent", "broken"]

PACKAGES = (
    "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "accelerate",
    "safetensors", "scipy", "scikit-learn", "pillow", "jinja2", "psutil",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One inspected item; only "broken" prevents tcs-edge from working, "absent" is of an extra or a download."""

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
    """Inspect packages, runtimes, devices, the cache and the teachers.

    Without all packages, the rest is inspected as far as the installed ones allow.
    """
    rows = [
        Finding("tcs-edge", "ok", f"{__version__} on Python {platform.python_version()}, {platform.machine()}"),
        *(_package(name) for name in PACKAGES),
    ]
    try:
        from tcs_edge.commands.working_parts import working_parts
    except ImportError as error:
        problem = import_problem(error)
        if problem is None:
            raise
        return Health((*rows, Finding("imports", "broken", problem)))
    return Health((*rows, *(Finding(*part) for part in working_parts())))


def _package(name: str) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        extra = extra_of(module_of(name))
        if extra and not is_installed("torch"):  # a base install, which does not train
            return Finding(name, "absent", f"not installed. Run pip install 'tcs-edge[{extra}]'")
        return Finding(name, "broken", f"not installed. Run pip install {name}")
    if not is_installed(module_of(name)):
        return Finding(name, "broken", f"{found} has no files. Run pip install --force-reinstall {name}")
    return Finding(name, "ok", found)
