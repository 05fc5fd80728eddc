"""Find the run that `--resume` continues: its options, and the conditions for going on."""

from __future__ import annotations

import shlex
from pathlib import Path

from tcs_edge.errors import UsageError
from tcs_edge.runs.folder import CONFIG, LOG, MARKER, REPORT, RunFolder, find_run, require_started


def options_of(root: Path) -> Path:
    """Return the file with the options of an existing run.

    Raises:
        DataError: as `find_run`, or the run stopped at its start. UsageError: the file is missing.
    """
    config = find_run(root).config
    require_started(root)
    if not config.is_file():
        raise UsageError(
            f"{root} cannot continue: it has no {CONFIG}. Start it again with all its options, "
            f"and pass --out {shlex.quote(str(root))} --overwrite."
        )
    return config


def find_unfinished(root: Path, other_exports: bool = False) -> RunFolder:
    """Return an existing run that can continue: it has no verdict yet, or failed validation.

    Args:
        other_exports: True if export options changed; the same options would fail again.

    Raises:
        DataError: as `find_run`. UsageError: the run is finished.
    """
    folder = find_run(root)
    if not folder.manifest.exists():
        return folder
    page = f" Only {REPORT} is missing. Write it with: tcs-edge report {shlex.quote(str(root))}"
    missing = "" if folder.report.is_file() else page
    if not folder.rejected.is_dir():
        fix = missing or " Omit --resume to start a new run."
        raise UsageError(f"{root} is finished: there is nothing to resume.{fix}")
    if not folder.deployed_weights.exists():
        raise UsageError(f"{root} failed validation and has no trained weights. Omit --resume to start a new run.")
    if not other_exports:
        raise UsageError(
            f"{root} is finished and failed validation. To export again without training, change the export: "
            f"pass --precision fp32 (without int8), or a larger --max-accuracy-drop.{missing}"
        )
    return folder


def last_activity(run: Path) -> float:
    """Return the time of a run's last log line, or of its start, in seconds since the epoch."""
    log = run / LOG
    return (log if log.is_file() else run / MARKER).stat().st_mtime
