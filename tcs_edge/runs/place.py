"""Place of a new run: its default name, a check that it can be written, and removal after a failed start."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

from tcs_edge.runs.folder import FILES, FOLDERS, RunFolder, open_run
from tcs_edge.utils.files import make_folder

RUNS = Path("runs")


def default_out(target: str, student: str, today: date, base: Path = RUNS) -> Path:
    """Return runs/<date>-<target>-<student>, the folder of the first run of a day without --out."""
    return base / f"{today.isoformat()}-{target}-{student}"


def later_runs(first: Path) -> list[Path]:
    """Return the folders `first`-2, -3, ... that exist, in this order."""
    found = []
    for entry in first.parent.iterdir() if first.parent.is_dir() else ():
        number = entry.name.removeprefix(f"{first.name}-")
        if number != entry.name and number.isascii() and number.isdecimal() and entry.is_dir():
            found.append((int(number), entry))
    return [entry for _, entry in sorted(found)]


def require_writable(out: Path) -> None:
    """Check that a run can be written in `out`, and leave nothing behind.

    Raises:
        MissingError: `out`, or a folder in it, cannot be created.
    """
    probe = out / f".draft-{os.getpid()}"
    new = _absent((probe, *probe.parents))
    try:
        make_folder(probe)
    finally:
        _remove_empty(new)


@contextmanager
def started_run(out: Path | None, default: Path, overwrite: bool) -> Iterator[RunFolder]:
    """Open the folder of a new run; if the block raises, remove it, with the parents that it needed.

    Args:
        out: the folder that the user named. Without one, the run gets `default`, or the first free one of
            `default`-2, -3, ...; two runs that start at the same time get two folders.
        overwrite: replace an earlier run in the folder, `default` itself without `out`.

    Raises:
        UsageError, MissingError: as `open_run`.
    """
    place = out or default
    new = _absent((place, *place.parents))
    if out is None and not overwrite:
        place = _claimed(default)
        new = [place, *(folder for folder in new if folder != default)]
    was_empty = not place.is_dir() or not any(place.iterdir())
    try:
        yield open_run(place, overwrite)
    except BaseException:
        for name in (*FOLDERS, *FILES) if was_empty else ():
            _remove(place / name)
        _remove_empty(new)
        raise


def _claimed(first: Path) -> Path:
    """Create the first free one of `first`, `first`-2, -3, ...; return it."""
    for number in itertools.count(1):
        place = first if number == 1 else first.with_name(f"{first.name}-{number}")
        with suppress(FileExistsError):
            make_folder(place, new=True)
            return place
    raise AssertionError("itertools.count ended")


def _absent(folders: Iterable[Path]) -> list[Path]:
    return [folder for folder in folders if not os.path.lexists(folder)]


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # another run may use it
            folder.rmdir()


def _remove(entry: Path) -> None:
    with suppress(OSError):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
