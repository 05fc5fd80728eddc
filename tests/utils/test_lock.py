"""One owner of a folder or a file; the system releases the lock of a killed process."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tcs_edge.errors import InUse, MissingError
from tcs_edge.utils import lock
from tcs_edge.utils.lock import FOLDER_LOCK, owned_file, owned_folder, require_unowned

OWNER = """
import os, sys, time
from pathlib import Path
from tcs_edge.utils.lock import owned_folder
with owned_folder(Path(sys.argv[1])):
    reader, writer = os.pipe()
    if sys.argv[2] == "fork":
        if os.fork() == 0:
            os.write(writer, b".")  # it runs, so it has closed the lock
            time.sleep(60)
            os._exit(0)
        os.read(reader, 1)
    print("owned", flush=True)
    time.sleep(60)
"""
COUNTER = """
import sys
from pathlib import Path
from tcs_edge.utils.lock import owned_file
path = Path(sys.argv[1])
for _ in range(25):
    with owned_file(path, wait_s=None):
        path.write_text(str(int(path.read_text()) + 1))
"""


@pytest.fixture
def owner() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """owner(folder): a process that owns the folder for a minute; "fork" leaves a child behind."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, kind: str = "plain") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OWNER, str(folder), kind]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True))
        assert started[-1].stdout.readline() == "owned\n"
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_second_owner_is_refused_and_told_the_first(tmp_path, owner):
    process = owner(tmp_path)
    expected = rf"{tmp_path} is in use by process {process.pid} on {platform.node()} since 20\d\d-.* UTC"
    with pytest.raises(InUse, match=expected) as caught, owned_folder(tmp_path, wait_s=0):
        pass
    assert caught.value.exit_code == 2
    with pytest.raises(InUse, match=expected):
        require_unowned(tmp_path)


@pytest.mark.parametrize("kind", ["plain", "fork"])
def test_a_killed_owner_is_no_obstacle(tmp_path, owner, kind):
    """Neither is a child that outlives it, such as a data worker."""
    process = owner(tmp_path, kind)
    process.kill()
    process.wait()
    assert (tmp_path / FOLDER_LOCK).read_text().startswith(f"process {process.pid} on ")
    require_unowned(tmp_path)
    with owned_folder(tmp_path, wait_s=0):
        assert (tmp_path / FOLDER_LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


def test_an_owner_without_a_limit_waits_and_says_for_whom(tmp_path, owner, recorder):
    process = owner(tmp_path)
    threading.Timer(0.3, process.kill).start()
    started = time.monotonic()
    with owned_folder(tmp_path, wait_s=None):
        assert time.monotonic() - started > 0.2
    assert [line.partition(" since ")[0] for line in recorder.said] == [
        f"waiting for process {process.pid} on {platform.node()}"
    ]


def test_one_file_has_one_owner_among_many_processes(tmp_path):
    """The lock file is removed and created all the time."""
    path = tmp_path / "count"
    path.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNTER, str(path)]) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert path.read_text() == "100"
    assert [entry.name for entry in tmp_path.iterdir()] == ["count"]


def test_a_file_that_was_removed_before_it_was_locked_is_no_lock(tmp_path, monkeypatch):
    """The earlier owner removes the file between the opening and the locking."""
    real, calls = lock._lock, []

    def late(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / FOLDER_LOCK).unlink()
        real(descriptor)

    monkeypatch.setattr(lock, "_lock", late)
    with owned_folder(tmp_path):
        assert len(calls) == 2
        with pytest.raises(InUse), owned_folder(tmp_path, wait_s=0):
            pass


def test_a_folder_that_stays_empty_is_removed(tmp_path):
    with owned_folder(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    with owned_file(tmp_path / "c" / "file"):
        pass
    assert list(tmp_path.iterdir()) == []
    with owned_file(tmp_path / "c" / "file"):
        (tmp_path / "c" / "file").write_text("kept")
    assert (tmp_path / "c" / "file").read_text() == "kept"


def test_an_owner_removes_drafts_of_its_file_alone(tmp_path):
    kept = {".other.draft-17.json", ".gate.draft-x.json", "gate.txt"}
    for name in (".gate.draft-17.json", ".gate.draft-18.json", *kept):
        (tmp_path / name).write_text("{")
    with owned_file(tmp_path / "gate.json"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, recorder):
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", refuse)
    with owned_folder(tmp_path):
        pass
    assert recorder.warned == [
        f"{tmp_path} is on a file system without locks (No locks available). Let no other process write there."
    ]


def test_the_lock_file_of_another_user_is_no_obstacle(tmp_path, monkeypatch):
    """A killed process of another user left it in a folder that both may write."""
    path, real = tmp_path / FOLDER_LOCK, os.open
    path.write_text("process 1 on elsewhere since 2026-01-01 00:00:00 UTC")

    def read_only(name: Path, flags: int, mode: int = 0o777) -> int:
        if name == path and path.exists() and flags & (os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, flags, mode)

    monkeypatch.setattr(os, "open", read_only)
    with owned_folder(tmp_path), pytest.raises(InUse), owned_folder(tmp_path, wait_s=0):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_foreign_lock_file_is_left_alone(tmp_path, kind):
    path, precious = tmp_path / FOLDER_LOCK, tmp_path / "precious"
    precious.write_text("data")
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(MissingError, match=FOLDER_LOCK), owned_folder(tmp_path):
        pass
    assert precious.read_text() == "data"
    assert os.path.lexists(path)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingError, match="cannot be written"), owned_folder(tmp_path / "file" / "run"):
        pass


def test_a_folder_without_permission_is_one_line(tmp_path, monkeypatch):
    def refuse(*_arguments: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(MissingError, match="no permission"), owned_folder(tmp_path):
        pass


def test_an_owner_removes_the_drafts_of_killed_owners(tmp_path):
    """A killed bench left drafts of its table, and no later bench removed them."""
    left = [tmp_path / ".table.draft-123.md", tmp_path / "inner" / ".accuracy.draft-77.svg"]
    left[1].parent.mkdir()
    for path in left:
        path.write_text("half")
    (tmp_path / "table.md").write_text("whole")
    with owned_folder(tmp_path):
        assert not any(path.exists() for path in left)
        assert (tmp_path / "table.md").read_text() == "whole"
