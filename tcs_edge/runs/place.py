"""Place of a run: its default name, its owner, a check that it can be written, and removal after a failed start."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path

from tcs_edge.errors import InUse
from tcs_edge.runs.folder import FILES, FOLDERS, MARKER, RunFolder, is_unused, open_run, require_usable
from tcs_edge.utils.files import make_folder, remove
from tcs_edge.utils.lock import owned_folder

RUNS = Path("runs")


class RunOwner(ExitStack):
    """Owner of at most one run folder, until the block ends or `close` is called.

    Whoever writes into a run folder owns it: a run, `report` and `validate --revoke`. Readers do not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._root: Path | None = None

    def own(self, root: Path) -> None:
        """Own a run folder, and remove the drafts of killed processes in it; create it if it is missing.

        Raises:
            InUse: another process owns it. MissingError: it cannot be written.
        """
        with suppress(OSError):  # one of the two is missing
            if self._root is not None and self._root.samefile(root):
                return
        self.close()
        self.enter_context(owned_folder(root))
        self._root = root

    def close(self) -> None:
        """Give the folder free."""
        self._root = None
        super().close()


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
    new = [folder for folder in (probe, *probe.parents) if not os.path.lexists(folder)]
    try:
        make_folder(probe)
    finally:
        for folder in new:
            with suppress(OSError):  # another run may use it
                folder.rmdir()


@contextmanager
def started_run(out: Path | None, default: Path, overwrite: bool, owner: RunOwner) -> Iterator[RunFolder]:
    """Open the folder of a new run; if the block raises, remove it, with the parents that it needed.

    Args:
        out: the folder that the user named. Without one, the run gets `default`, or the first free one of
            `default`-2, -3, ...; two runs that start at the same time get two folders.
        overwrite: replace an earlier run in the folder, `default` itself without `out`.
        owner: owns the folder after this block too, unless it raises.

    Raises:
        UsageError, MissingError: as `open_run`. InUse: as `RunOwner.own`.
    """
    if out is None and not overwrite:
        place = _claimed(default, owner)
    else:
        place = out or default
        require_usable(place, overwrite)  # before anything is written there
        owner.own(place)
    was_empty = is_unused(place)
    try:
        yield open_run(place, overwrite)
    except BaseException:
        # The marker goes last, as long as there is anything else.
        for name in sorted((*FOLDERS, *FILES), key=lambda name: name == MARKER) if was_empty else ():
            with suppress(OSError):
                remove(place / name)
        owner.close()  # removes the folders that it created
        raise


def _claimed(first: Path, owner: RunOwner) -> Path:
    """Own the first free one of `first`, `first`-2, -3, ...; return it."""
    for number in itertools.count(1):
        place = first if number == 1 else first.with_name(f"{first.name}-{number}")
        if os.path.lexists(place) and not (place.is_dir() and is_unused(place)):
            continue
        with suppress(InUse):
            owner.own(place)
            if is_unused(place):
                return place
            owner.close()
    raise AssertionError("itertools.count ended")
