"""A shortage of memory, disk space or file handles is one line with advice, not a bug and not a damaged file."""

from __future__ import annotations

import errno
import time

import psutil
import pytest
from PIL import Image

from tcs_edge.data import decode
from tcs_edge.errors import MissingError
from tcs_edge.utils.shortage import shortage
from tcs_edge.utils.stopwatch import SAMPLE_SECONDS, Stopwatch

PanicException = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
SHORT = {
    "memory in Rust": (PanicException("PyObject pointer is null"), "not enough memory (PyObject pointer is null)"),
    "handles": (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
    "handles of the system": (OSError(errno.ENFILE, "Too many open files in system"), "ulimit -n"),
    "memory": (MemoryError(), "not enough memory (an allocation failed)"),
    "memory, errno": (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
    "memory in torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory: 99 bytes"), "not enough memory"),
    "memory in oneDNN": (RuntimeError("could not create a primitive"), "not enough memory"),
    "memory in C++": (RuntimeError("std::bad_alloc"), "not enough memory"),
    "threads": (RuntimeError("can't start new thread"), "not enough memory"),
    "threads in C++": (RuntimeError("Resource temporarily unavailable"), "not enough memory"),
    "processes": (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "not enough memory"),
    "a library that cannot be mapped": (ImportError("x.so: failed to map segment from shared object"), "memory"),
    "disk": (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
    "file size": (OSError(errno.EFBIG, "File too large"), "ulimit -f"),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_shortage_is_named_also_behind_another_error(name):
    error, words = SHORT[name]
    behind = ValueError("cannot load")
    behind.__cause__ = error
    for one in (error, behind):
        message = shortage(one)
        assert message is not None
        assert words in message
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize("error", [ValueError("out of memory"), OSError(errno.ENOENT, "gone"), RuntimeError("shape")])
def test_other_errors_are_no_shortage(error):
    assert shortage(error) is None


@pytest.mark.parametrize("name", SHORT)
def test_a_command_ends_with_one_line_and_exit_4(cli, monkeypatch, make_run, name):
    def fails(*_: object) -> None:
        raise SHORT[name][0]

    monkeypatch.setattr("tcs_edge.runs.load.find_run", fails)
    monkeypatch.setattr("tcs_edge.report.page.run.run_page", fails)
    result = cli("report", make_run())
    assert result.exit_code == 4, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert SHORT[name][1] in line


@pytest.mark.parametrize("error", [SHORT["handles"][0], SHORT["memory"][0]])
def test_an_image_that_a_shortage_hides_is_not_skipped(monkeypatch, tmp_path, error):
    """A run with fewer images than the folder has would be another run."""

    def fails(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    monkeypatch.setattr(decode.Image, "open", fails)
    for read in (decode.inspect, decode.open_rgb):
        with pytest.raises(MissingError):
            read(path)


def test_memory_is_sampled_without_a_free_file_handle(monkeypatch, capfd):
    def fails(*_: object) -> None:
        raise SHORT["handles"][0]

    monkeypatch.setattr(psutil.Process, "memory_info", fails)
    watch = Stopwatch()
    with watch.stage("short"):
        time.sleep(3 * SAMPLE_SECONDS)
    assert [stage.name for stage in watch.stages] == ["short"]
    assert "Exception in thread" not in capfd.readouterr().err


def test_another_panic_of_a_library_is_a_bug_with_its_traceback(cli, monkeypatch, make_run):
    def fails(*_: object) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr("tcs_edge.runs.load.find_run", fails)
    monkeypatch.setattr("tcs_edge.report.page.run.run_page", fails)
    result = cli("report", make_run())
    assert result.exit_code == 70
    assert "PanicException: index out of bounds" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: this is a bug in tcs-edge (PanicException)")
