"""Find the files that a run's options name, from any folder and after a move of the whole project.

The marker of a run holds the folder in which the run was started, relative to the run folder. Relative paths in
the run's options are relative to that folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tcs_edge.errors import DataError
from tcs_edge.utils.reading import read_json

RUN_MARKER = "tcs-edge-run.json"
STARTED_IN = "started_in"
PATHS = ("data", "unlabeled", "teacher_weights", "teacher_onnx", "teacher_features", "cache_dir")
EXCLUDE_FILE = "@"  # start of a value of --exclude that names a file
HUB = "hf:"  # start of a data set of the hub, hf://NAME
INIT_WORDS = ("auto", "pretrained", "random")


def started_in(run: Path) -> str:
    """Return the current folder relative to the run folder, or its whole path on another Windows drive."""
    try:
        return Path(os.path.relpath(Path.cwd(), run.resolve())).as_posix()
    except ValueError:
        return Path.cwd().as_posix()


def path_of_run(run: Path, recorded: str | Path) -> Path:
    """Return a path of the run's options as seen from the current folder; unchanged if it is the same place.

    Args:
        recorded: the path as the options have it.
    """
    path = Path(recorded)
    start = _start(run / RUN_MARKER)
    if path.is_absolute() or start is None or path.parts[:1] == (HUB,):
        return path
    place = Path(os.path.normpath(run.resolve() / start / path))
    if place == Path(os.path.normpath(Path.cwd().resolve() / path)):
        return path
    return place if os.path.lexists(place) or not os.path.lexists(path) else path


def recorded_data(run: Path, options: Mapping[str, Any]) -> Path | None:
    """Return the folder of a run's images as seen from the current folder; None for the digits."""
    recorded = options.get("data")
    return path_of_run(run, recorded) if isinstance(recorded, str) and recorded else None


def with_paths_of_run(run: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run with paths that hold in the current folder."""
    named = [name for name in PATHS if isinstance(options.get(name), str)]
    if str(options.get("student_init", "auto")) not in INIT_WORDS:
        named.append("student_init")
    if str(options.get("target", "")).endswith(".toml"):
        named.append("target")
    found = {**options, **{name: str(path_of_run(run, options[name])) for name in named}}
    return found | ({"exclude": exclude_of_run(run, options["exclude"])} if options.get("exclude") else {})


def exclude_of_run(run: Path, values: Sequence[str]) -> list[str]:
    """Return the values of `--exclude` with the paths of files that hold in the current folder."""
    return [
        f"{EXCLUDE_FILE}{path_of_run(run, value[1:])}" if value.startswith(EXCLUDE_FILE) else value for value in values
    ]


def _start(marker: Path) -> str | None:
    try:
        start = read_json(marker, schema_version=1).get(STARTED_IN)
    except DataError:
        return None
    return start if isinstance(start, str) else None
