"""Locks on folders and files: one owner at a time, released by the system when the owner's process ends.

The lock is on a small file beside the data, which names the owner for messages. Readers need no lock. A lock file
without an owner, as after a kill, is no obstacle. Systems: flock on Linux and macOS, msvcrt on Windows. On a file
system without locks, such as some network drives, a warning is logged and the work goes on.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tcs_edge.errors import InUse, MissingError, TcsEdgeError
from tcs_edge.utils.files import make_folder, remove_drafts, remove_drafts_of, write_error

logger = logging.getLogger(__name__)

FOLDER_LOCK = ".tcs-edge.lock"
WAIT_S = 0.5  # for owners that only write one file
_POLL_S = 0.05
_NOTE_BYTES = 200
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES, errno.EDEADLK, getattr(errno, "EDEADLOCK", errno.EDEADLK)})
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

# Open lock files of this process. A forked child must not keep its parent's locks alive.
_open: set[int] = set()
_hooked = False


@contextmanager
def owned_folder(folder: Path, wait_s: float | None = WAIT_S) -> Iterator[None]:
    """Own `folder` for the block; create it if needed, and remove it again if it stays empty.

    Drafts that killed owners left below it are removed.

    Args:
        wait_s: longest wait for another owner, in seconds; None waits without limit.

    Raises:
        InUse: another process owns it. MissingError: the folder cannot be written.
    """
    with _owned(folder / FOLDER_LOCK, folder, wait_s):
        remove_drafts(folder)
        yield


@contextmanager
def owned_file(target: Path, wait_s: float | None = WAIT_S) -> Iterator[None]:
    """Own the file `target` for the block, which may not exist yet; remove drafts that a killed owner left.

    Args:
        wait_s: as `owned_folder`.

    Raises:
        InUse: another process owns it. MissingError: its folder cannot be written.
    """
    with _owned(target.with_name(f".{target.name}.lock"), target, wait_s):
        remove_drafts_of(target)
        yield


def remove_abandoned(folder: Path) -> None:
    """Remove the locks and drafts that killed owners of subfolders and files of `folder` left; errors are ignored.

    For work that needs no owner, because the killed one had finished all but its end.
    """
    for path in folder.glob(f"*/{FOLDER_LOCK}"):
        with suppress(OSError, TcsEdgeError), owned_folder(path.parent, wait_s=0):
            pass
    for path in folder.glob(".*.lock"):
        if path.name != FOLDER_LOCK:
            target = path.with_name(path.name.removeprefix(".").removesuffix(".lock"))
            with suppress(OSError, TcsEdgeError), owned_file(target, wait_s=0):
                pass


def require_unowned(folder: Path) -> None:
    """Raise the error of `owned_folder` early, without changing anything.

    Raises:
        InUse: another process, or another thread of this one, owns the folder.
    """
    path = folder / FOLDER_LOCK
    if path.is_file():
        with suppress(OSError):
            descriptor = os.open(path, _FLAGS & ~os.O_CREAT)
            try:
                taken = not _try_lock(descriptor)
            finally:
                os.close(descriptor)
            if taken:
                raise _in_use(folder, path)


@contextmanager
def _owned(path: Path, subject: Path, wait_s: float | None) -> Iterator[None]:
    new = [folder for folder in path.parents if not os.path.lexists(folder)]
    owner = os.getpid()
    try:
        descriptor = _acquired(path, subject, wait_s)
        try:
            yield
        finally:
            if os.getpid() == owner:  # not in a forked child
                _release(descriptor, path)
    finally:
        for folder in new if os.getpid() == owner else ():
            with suppress(OSError):  # it has files, or another process removed it
                folder.rmdir()


def _acquired(path: Path, subject: Path, wait_s: float | None) -> int:
    """Return the descriptor of the locked file."""
    end = None if wait_s is None else time.monotonic() + wait_s
    told = False
    while (descriptor := _attempt(path)) is None:
        if end is not None and time.monotonic() > end:
            raise _in_use(subject, path)
        if end is None and not told:
            logger.info(f"waiting for {_owner_of(path)}, which writes {subject}")
            told = True
        time.sleep(_POLL_S)
    return descriptor


def _attempt(path: Path) -> int | None:
    """Lock the file once; return its descriptor, or None if another owner has it or just removed it."""
    try:
        make_folder(path.parent)
        descriptor = _opened(path)
    except FileNotFoundError:  # the folder was removed in between
        return None
    except OSError as error:
        raise write_error(error, path) from None
    kept = False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MissingError(f"{path} is not a regular file. Remove it.")
        kept = _try_lock(descriptor, path) and _is_at(descriptor, path)
    finally:
        if not kept:
            os.close(descriptor)
    if not kept:
        return None
    _remember(descriptor)
    _write_note(descriptor)
    return descriptor


def _opened(path: Path) -> int:
    try:
        return os.open(path, _FLAGS, 0o666)
    except PermissionError:
        if not path.is_file():
            raise
        # Of another user of a shared folder; reading suffices for a lock.
        return os.open(path, _FLAGS & ~(os.O_CREAT | os.O_RDWR))


def _try_lock(descriptor: int, path: Path | None = None) -> bool:
    """Lock an open file; return False if another owner has it.

    Args:
        path: for the warning that the file system has no locks; None logs none.
    """
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno not in _UNSUPPORTED:
            raise
        if path is not None:
            logger.warning(
                f"{path.parent} is on a file system without locks ({error.strerror}). Let no other process write there."
            )
    return True


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # a locked byte cannot be read, so lock one behind the note

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return False if the earlier owner removed the file between opening and locking it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _write_note(descriptor: int) -> None:
    note = f"process {os.getpid()} on {platform.node()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    with suppress(OSError):  # without a note, such as on a full disk, the lock is held all the same
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, note.encode("utf-8", "backslashreplace")[:_NOTE_BYTES])


def _in_use(subject: Path, path: Path) -> InUse:
    return InUse(f"{subject} is in use by {_owner_of(path)}. Wait for that process, or stop it.")


def _owner_of(path: Path) -> str:
    """Read the owner's note."""
    note = ""
    with suppress(OSError), path.open("rb") as handle:
        note = " ".join(handle.read(_NOTE_BYTES).decode("utf-8", "replace").split())
    return note or "another process"


def _release(descriptor: int, path: Path) -> None:
    _open.discard(descriptor)
    if os.name == "posix" and _is_at(descriptor, path):
        # Remove the file while it is locked: whoever opened it before sees another file at its path, and tries again.
        with suppress(OSError):
            path.unlink()
    os.close(descriptor)
    if os.name != "posix":  # Windows removes no open file
        with suppress(OSError):
            path.unlink()


def _remember(descriptor: int) -> None:
    global _hooked
    _open.add(descriptor)
    if not _hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_close_inherited)
        _hooked = True


def _close_inherited() -> None:
    while _open:
        with suppress(OSError):
            os.close(_open.pop())
