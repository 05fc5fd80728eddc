"""Processes that end with their parent, and detection of processes that import the user's script again."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from tcs_edge.errors import UsageError

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def refuse_second_import(call: str) -> None:
    """Fail if multiprocessing imports the user's script again to start a process, as on macOS and Windows.

    The script's calls at top level run again there: the second run would write into the files of the first.

    Args:
        call: the call that the message names.

    Raises:
        UsageError: this process is starting, and the script is being imported for it.
    """
    # The flag of multiprocessing's own check. It is set while the start methods spawn and forkserver import the script.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            f"{call} runs again, because a process that your script started imports the script. "
            f'Put {call} under `if __name__ == "__main__":`.'
        )


def end_with_parent(parent: int) -> None:
    """Let Linux kill this process when its parent ends, also by SIGKILL; without effect on other systems.

    Args:
        parent: process id of the parent. If it has ended already, this process ends at once.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def run_attached(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m module arguments` to its end; the process ends with this one, on every system.

    The result has the process's stderr as text.
    """
    # Nothing is written to the pipe. It closes when this process ends for any reason.
    reader, writer = os.pipe()
    command: Sequence[str] = [sys.executable, "-m", "tcs_edge.utils.attached", module, *arguments]
    try:
        return subprocess.run(
            command, stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(reader)
        os.close(writer)
