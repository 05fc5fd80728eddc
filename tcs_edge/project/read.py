"""What a project's folder says: options and limits in `tcs-edge.toml`, or limits in pyproject.toml.

target = "raspberrypi5"        # tcs-edge.toml: the options of `compress` at the top ...
data = "photos"
[gate]                         # ... and the limits of `gate`; in pyproject.toml [tool.tcs-edge.gate]
max_size_mb = 5
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tcs_edge.errors import SpecError
from tcs_edge.gate.limits import GateLimits, overridden
from tcs_edge.specs.config import CompressConfig, load_config
from tcs_edge.specs.strict import Spec, validated

OWN_FILE, PYPROJECT = "tcs-edge.toml", "pyproject.toml"


class ProjectFile(CompressConfig):
    """`tcs-edge.toml`; every key may be left to the flags."""

    target: str = ""
    gate: GateLimits | None = None

    def compress_config(self) -> CompressConfig:
        """The options of `compress` alone."""
        written = {name: getattr(self, name) for name in self.model_fields_set - {"gate"}}
        return CompressConfig(**written)


class PyprojectTable(Spec):
    """`[tool.tcs-edge]` of pyproject.toml."""

    gate: GateLimits | None = None


def find_options(folder: Path) -> Path | None:
    """The file of `folder` that holds options of `compress`; None where there is none."""
    path = folder / OWN_FILE
    return path if path.is_file() else None


def find_limits(folder: Path, flags: Mapping[str, Any]) -> tuple[GateLimits, Path | None]:
    """The limits of `folder` with `flags` laid over them, and the file they came from.

    Args:
        flags: keys of the gate's table; `change` may hold a table of its own. A flag replaces the whole key.

    Raises:
        SpecError: a file that is not TOML, an unknown key, a wrong value, or limits in both files.
    """
    own, shared = folder / OWN_FILE, folder / PYPROJECT
    in_own = validated(ProjectFile, load_config(own), own).gate if own.is_file() else None
    in_shared = _shared_limits(shared) if shared.is_file() else None
    if in_own is not None and in_shared is not None:
        raise SpecError(f"limits stand in both {OWN_FILE} and {PYPROJECT}. Keep one of them.")
    if in_own is not None:
        return overridden(in_own, flags), own
    return overridden(in_shared or GateLimits(), flags), shared if in_shared is not None else None


def _shared_limits(path: Path) -> GateLimits | None:
    tools = load_config(path).get("tool")
    table = tools.get("tcs-edge") if isinstance(tools, Mapping) else None
    return None if table is None else validated(PyprojectTable, table, Path(f"{path} [tool.tcs-edge]")).gate
