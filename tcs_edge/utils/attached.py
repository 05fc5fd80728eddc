"""Run a module in a process that ends with its parent: `python -m tcs_edge.utils.attached MODULE ARGUMENTS`.

Standard input is a pipe of the parent, see `utils.processes.run_attached`. It closes when the parent ends.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

PARENT_ENDED = 1


def end_with_stdin() -> None:
    """End this process when standard input closes, and leave Ctrl-C and SIGHUP to the parent."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    while os.read(0, 1):
        pass
    os._exit(PARENT_ENDED)


if __name__ == "__main__":
    end_with_stdin()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
