"""Options of a run and limits of a gate, from flags, `tcs-edge.toml`, pyproject.toml or an earlier run.

target = "raspberrypi5"        # tcs-edge.toml: options of `compress` at the top
data = "photos"
[gate]                         # limits of `gate`; in pyproject.toml [tool.tcs-edge.gate]
max_size_mb = 5
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tcs_edge.errors import InUse, SpecError, TcsEdgeError, UsageError
from tcs_edge.gate.limits import GateLimits, overridden
from tcs_edge.runs.folder import is_run
from tcs_edge.runs.origin import with_paths_of_run
from tcs_edge.runs.place import later_runs
from tcs_edge.runs.resume import find_unfinished, last_activity, options_of
from tcs_edge.specs.config import CompressConfig, load_config, with_flags
from tcs_edge.specs.strict import Spec, validated
from tcs_edge.utils.lock import require_unowned
from tcs_edge.utils.reading import is_folder

OWN_FILE, PYPROJECT = "tcs-edge.toml", "pyproject.toml"

# Options of the exported files, which do not affect the training.
EXPORTED = frozenset({
    "precision", "format", "max_accuracy_drop", "opset", "dynamic_batch", "embed_preprocess", "compiled_latency",
    "allow_unshown_int8", "false_alarm_rate", "min_accuracy",
    "min_class_recall", "min_macro_f1", "max_ece",
})  # fmt: skip
# Options that may change with --resume: of the machine and the exported files, not of the trained model.
RESUMABLE = EXPORTED | {"threads", "workers", "device", "cache_gb", "log"}


class ProjectFile(CompressConfig):
    """`tcs-edge.toml`; flags may replace any key."""

    target: str = ""
    gate: GateLimits | None = None

    def compress_config(self) -> CompressConfig:
        """Return the options of `compress` alone."""
        return CompressConfig(**{name: value for name, value in self.explicit().items() if name != "gate"})


class PyprojectTable(Spec):
    """`[tool.tcs-edge]` of pyproject.toml."""

    gate: GateLimits | None = None


def read_options(given: Mapping[str, Any], config: Path | None, resume: Path | None) -> CompressConfig:
    """Return the options from flags, a config file or the run to resume; flags override the others.

    Args:
        given: options by field name; options of `[train]` may be beside the others.

    Raises:
        SpecError: an unknown option or a wrong value.
        UsageError: options that would change the resumed run, or no target.
        DataError: `resume` is not a run.
    """
    if resume:
        _require_resumable_options([*given, *(["config"] if config else [])])
        config = options_of(resume)
    options = with_flags(_load_options(config) if config else {}, given)
    if "target" not in options:
        raise UsageError("no target. Pass --target, for example --target raspberrypi (see `tcs-edge targets`).")
    return validated(ProjectFile, options, config or Path("options")).compress_config()


def _require_resumable_options(given: Iterable[str]) -> None:
    if changed := sorted(set(given) - RESUMABLE):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UsageError(f"--resume uses the options of its run. Leave {flags} out.")


def asks_for_other_exports(options: CompressConfig, run: Path) -> bool:
    """Return True if `options` differ from the run's in the files to export.

    Raises:
        DataError, SpecError: not a run, or a run without its options.
    """
    before = read_options({}, None, run)
    return any(getattr(options, name) != getattr(before, name) for name in EXPORTED)


def _load_options(config: Path) -> dict[str, Any]:
    """Read a config file; paths in a run's own file are relative to the folder in which the run was started."""
    options = load_config(config)
    return with_paths_of_run(config.parent, options) if is_run(config.parent) else options


def find_resumable(place: Path, given: Mapping[str, Any]) -> Path:
    """Return the run that `--resume PLACE` continues: the run itself, or the newest one that can continue.

    A finished run stands for the later runs of its day, with -2, -3, ... behind its name. A folder of runs stands
    for all of them. A run that another process writes is left alone.

    Args:
        given: options beside --resume; other export options also continue a run that failed its validation.

    Raises:
        DataError: no run in `place`. UsageError: no run can continue, or `given` would change it.
    """
    _require_resumable_options(given)
    named = is_run(place)
    others = later_runs(place) if named else _entries(place)
    runs = sorted(filter(is_run, others), key=last_activity, reverse=True)
    if named or not runs:
        try:
            _require_resumable(place, given)
        except UsageError:
            if not runs:
                raise
        else:
            return place
    in_use = None
    for run in runs:
        try:
            _require_resumable(run, given)
            require_unowned(run)
        except InUse as error:
            in_use = in_use or error
        except TcsEdgeError:
            continue
        else:
            return run
    if in_use:
        raise in_use
    raise UsageError(f"{place}: none of its {len(runs) + named} runs can continue. Omit --resume to start a new run.")


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if is_folder(folder) else []


def _require_resumable(run: Path, given: Mapping[str, Any]) -> None:
    find_unfinished(run, other_exports=asks_for_other_exports(read_options(given, None, run), run))


def find_options(folder: Path) -> Path | None:
    """Return the file in `folder` with options of `compress`; None without one."""
    path = folder / OWN_FILE
    return path if path.is_file() else None


def find_limits(folder: Path, flags: Mapping[str, Any]) -> tuple[GateLimits, Path | None]:
    """Return the limits of `folder`, overridden by `flags`, and their file.

    Args:
        flags: keys of the gate's table; `change` may be a table. A flag replaces the whole key.

    Raises:
        SpecError: a file that is not TOML, an unknown key, a wrong value, or limits in both files.
    """
    own, shared = folder / OWN_FILE, folder / PYPROJECT
    in_own = validated(ProjectFile, load_config(own), own).gate if own.is_file() else None
    in_shared = _shared_limits(shared) if shared.is_file() else None
    if in_own is not None and in_shared is not None:
        raise SpecError(f"limits are in both {OWN_FILE} and {PYPROJECT}. Keep one of them.")
    if in_own is not None:
        return overridden(in_own, flags), own
    return overridden(in_shared or GateLimits(), flags), shared if in_shared is not None else None


def _shared_limits(path: Path) -> GateLimits | None:
    tools = load_config(path).get("tool")
    table = tools.get("tcs-edge") if isinstance(tools, Mapping) else None
    return None if table is None else validated(PyprojectTable, table, Path(f"{path} [tool.tcs-edge]")).gate
