"""Signals that stop a command: Ctrl-C, SIGTERM and SIGHUP unwind it, so that it removes drafts and names the next step.

This module imports only the standard library, because it guards the import of everything else.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TextIO

INTERRUPT = signal.SIGINT
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAME_STOP_SECONDS = 2.0  # a terminal, a shell and a wrapper can all forward one request to stop
LOST_SECONDS = 0.05
REPEAT_SECONDS = 5.0  # until the exception is raised again, in case a library swallowed it

_first: list[tuple[int, float]] = []  # signal and time of the first request
_repeats: list[int] = []
LEAVING = 0  # among the repeats, which are signals otherwise
_shared: list[mmap.mmap] = []  # one byte that forked workers read: 1 after the first request


class Stopped(KeyboardInterrupt):
    """The command was asked to stop by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(number: int) -> int:
    """Return the exit code of a command that a signal stopped: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + number


def stop_requested() -> int | None:
    """Return the signal that asked this process to stop, also if a library replaced its exception; else None."""
    return _first[0][0] if _first else None


def handle_stop_signals() -> None:
    """Raise `Stopped` in the main thread at the first signal; end the process at a later one.

    Signals that are ignored at the start, such as under nohup, stay ignored.
    """
    owner = os.getpid()
    _shared[:] = [mmap.mmap(-1, 1)]
    atexit.register(_end_alarms)  # before all other modules do, so it runs last

    def stop(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if os.getpid() != owner:  # a forked worker that has not set its own handlers yet
            if number == signal.SIGTERM:
                os._exit(exit_code(number))
        elif not _first:
            _first.append((number, now))
            _shared[0][0] = 1
            if hasattr(signal, "setitimer"):
                signal.signal(signal.SIGALRM, _again)
                signal.setitimer(signal.ITIMER_REAL, REPEAT_SECONDS, REPEAT_SECONDS)
            raise Stopped(number)
        elif now - _first[0][1] > SAME_STOP_SECONDS:
            os._exit(exit_code(_first[0][0]))

    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    sys.unraisablehook = _keeps_stops(sys.unraisablehook)
    threading.excepthook = _until_stop(threading.excepthook)
    sys.excepthook = _until_stop(sys.excepthook)  # helper threads of multiprocessing call it too


def leave_reports_to(parent: int) -> None:
    """Print no errors in this forked worker once its parent was asked to stop, ends, or hangs up on a helper thread.

    Errors of the work itself travel to the parent, which reports them. What is left are helper threads that lose
    their counterpart in the parent.

    Args:
        parent: process id of the parent.
    """
    sys.stderr = _Muted(sys.stderr, lambda: bool(_shared and _shared[0][0]) or os.getppid() != parent)
    report = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if not isinstance(error, (ConnectionError, EOFError)):
            report(kind, error, trace)

    sys.excepthook = hook  # called by the thread that hands open files to the parent


class _Muted:
    """A text stream that drops what is written once `silent` returns True."""

    def __init__(self, stream: TextIO, silent: Callable[[], bool]) -> None:
        self._stream, self._silent = stream, silent

    def write(self, text: str) -> int:
        return len(text) if self._silent() else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def leave_soon() -> None:
    """Let the process end at the next alarm, even if a library blocks the interpreter's exit."""
    _repeats.append(LEAVING)


def _end_alarms() -> None:
    """End a stopped process here: after its exit functions, Python gives alarms back to the system, which kill it.

    They would replace the exit code while a slow machine takes apart the modules.
    """
    if not _first:
        return
    if LEAVING in _repeats:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(exit_code(_first[0][0]))
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _again(_number: int, _frame: FrameType | None) -> None:
    if not _first:
        return
    if _repeats:
        os._exit(exit_code(_first[0][0]))
    _repeats.append(_first[0][0])
    raise Stopped(_first[0][0])


def _repeat(number: int) -> None:
    _first.clear()  # only now: a second signal must not raise in the hook, whose exceptions Python drops
    if hasattr(signal, "pthread_kill"):  # wakes the main thread from a system call
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def _keeps_stops(report: Callable[[sys.UnraisableHookArgs], object]) -> Callable[[sys.UnraisableHookArgs], object]:
    """Return a hook that repeats a signal whose exception Python dropped in a finalizer or a callback."""

    def hook(problem: sys.UnraisableHookArgs) -> None:
        if isinstance(problem.exc_value, Stopped) and _first:
            again = threading.Timer(LOST_SECONDS, _repeat, (_first[0][0],))
            again.daemon = True
            again.start()
        elif not _first:
            report(problem)

    return hook


def _until_stop(report: Callable[..., object]) -> Callable[..., object]:
    """Return a hook that reports no error of a helper thread after a request to stop."""

    def hook(*problem: Any) -> None:
        if not _first or threading.current_thread() is threading.main_thread():
            report(*problem)

    return hook
