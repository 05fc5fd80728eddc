"""Detection of processes that import the user's script again."""

from __future__ import annotations

import multiprocessing

from tcs_edge.errors import UsageError


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
