"""Run commands of tcs-edge in forked processes, and kill each at its n-th file event.

    with Forks(folder) as forks:
        events = forks.run("compress", ...).events
        forks.run("compress", ..., kill_at=3)  # SIGKILL before the third event

A file event creates, opens for writing, renames or removes something in the folder. Everything before it is on the
disk, and nothing after it, as after a kill at any moment in between. One process imports the libraries, and every
command is a fork of it, so a command takes only its own time. Unix only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIR_FD = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.rename": 2}  # positions of the folder's descriptor
CHANGES = {*DIR_FD, "shutil.rmtree", "shutil.copyfile", "os.link", "os.symlink", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
PREPARE = (
    "torch", "timm", "torchvision", "onnx", "onnxruntime", "openvino", "nncf", "scipy.stats", "sklearn.datasets",
    "tcs_edge.cli.app", "tcs_edge.pipeline.run", "tcs_edge.bundle.make", "tcs_edge.gate.check",
    "tcs_edge.stages.validate", "tcs_edge.profiling.record", "tcs_edge.report.page.run",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Exit code (-9 after a kill), everything printed, and the file events of one command."""

    code: int
    output: str
    events: tuple[str, ...]

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith("error: ")]


class Forks(AbstractContextManager["Forks"]):
    """A process that runs each command in a fork of itself, in the working folder `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def __enter__(self) -> Forks:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=self.folder, env=environment,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(timeout=60)

    def run(self, *arguments: object, kill_at: int | None = None) -> Outcome:
        """Run one command to its end, or to its event number `kill_at`, counted from 1."""
        request = {"arguments": [str(argument) for argument in arguments], "kill_at": kill_at}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        return Outcome(answer["code"], answer["output"], tuple(answer["events"]))


class _Counter:
    """Audit hook that writes every file event in `root` to a descriptor and kills the process at one of them."""

    def __init__(self, root: Path, log: int, kill_at: int | None) -> None:
        self.root, self.log, self.kill_at, self.count = root, log, kill_at, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & WRITING):
                return
        elif event not in CHANGES:
            return
        path = self._path(event, arguments)
        if path is None:
            return
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self.log, f"{event} {path}\n".encode("utf-8", "backslashreplace"))

    def _path(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        """Return the event's path, relative to `root`; None for a path elsewhere."""
        if not isinstance(arguments[0], str | bytes | os.PathLike):
            return None
        place = Path.cwd()
        position = DIR_FD.get(event)
        if position is not None and len(arguments) > position and arguments[position] not in (None, -1):
            place = Path(f"/proc/self/fd/{arguments[position]}").readlink()
        path = place / os.fsdecode(arguments[0])
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else None


def _run_fork(arguments: Sequence[str], kill_at: int | None) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as events:
        child = os.fork()
        if child == 0:
            _run_here(arguments, kill_at, output.fileno(), events.fileno())
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (output, events):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
        return {
            "code": os.waitstatus_to_exitcode(status), "output": texts[0], "events": texts[1].splitlines(),
        }  # fmt: skip


def _run_here(arguments: Sequence[str], kill_at: int | None, output: int, events: int) -> None:
    """Run the command in this process, and end the process."""
    code = 70
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.addaudithook(_Counter(Path.cwd(), events, kill_at))
        sys.argv = ["tcs-edge", *arguments]
        from tcs_edge.cli.app import main

        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _export_once() -> None:
    """Fill the tables that torch makes at its first export, which take seconds."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "layer.onnx")
        torch.onnx.export(torch.nn.Linear(2, 2).eval(), (torch.ones(1, 2),), path, dynamo=True, verbose=False)


def _serve() -> None:
    """Answer requests on stdin, one JSON document per line, until it closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print while they are imported
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    for module in PREPARE:
        __import__(module)
    _export_once()
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(_run_fork(request["arguments"], request["kill_at"])) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
