"""Run commands of tcs-edge in forked processes, and stop each at its n-th file event or after some seconds.

    with Forks(folder) as forks:
        events = forks.run("compress", ...).events
        forks.run("compress", ..., kill_at=3)  # SIGKILL before the third event
        forks.run("compress", ..., signals=[(signal.SIGTERM, 0.5)])  # SIGTERM after half a second of work
        forks.run("compress", ..., limits={"RLIMIT_NOFILE": 32})
        forks.run("compress", ..., copies="/elsewhere")  # copies of the folder as it is before each event

A file event creates, opens for writing, renames or removes something in the folder. Everything before it is on the
disk, and nothing after it, as after a kill at any moment in between. One process imports the libraries, and every
command is a fork of it, so a command takes only its own time. Unix only.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIR_FD = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.rename": 2}  # positions of the folder's descriptor
CHANGES = {*DIR_FD, "shutil.rmtree", "shutil.copyfile", "os.link", "os.symlink", "os.truncate"}
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a background job ignores some of them from its start
LONGEST_S = 600  # a command that takes longer hangs
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
PREPARE = (
    "torch", "timm", "torchvision", "onnx", "onnxruntime", "openvino", "nncf", "scipy.stats", "sklearn.datasets",
    "tcs_edge.cli.app", "tcs_edge.pipeline.run", "tcs_edge.bundle.make", "tcs_edge.gate.check",
    "tcs_edge.stages.validate", "tcs_edge.profiling.record", "tcs_edge.report.page.run",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Exit code (-9 after a kill), everything printed, file events and CPU time in seconds of one command.

    Args:
        unsent: number of signals whose moment did not come.
    """

    code: int
    output: str
    events: tuple[str, ...]
    seconds: float
    hung: bool
    unsent: int = 0

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith("error: ")]


class Forks(AbstractContextManager["Forks"]):
    """A process that runs each command in a fork of itself, in the working folder `folder`.

    Args:
        variables: changes of the environment.
    """

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder.resolve()
        self.variables = variables

    def __enter__(self) -> Forks:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"} | self.variables
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=self.folder, env=environment,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(timeout=LONGEST_S)

    def run(
        self,
        *arguments: object,
        kill_at: int | None = None,
        signals: Sequence[tuple[int, float]] = (),
        victim: str = "command",
        limits: Mapping[str, int] | None = None,
        copies: Path | None = None,
    ) -> Outcome:
        """Run one command to its end, or to its event number `kill_at`, counted from 1.

        Args:
            signals: each a signal and the time to send it, in seconds of the CPU time of the command and its
                children, so that other programs do not move the moment.
            victim: process that gets the signals: the command, or its first child, once there is one.
            limits: names of `resource` with their values. RLIMIT_AS is counted from the memory in use, and
                RLIMIT_NOFILE from the largest handle in use.
            copies: existing folder outside of `folder`: copies of `folder`/work go there, as number of the event.
                A copy that equals an earlier one is left out.
        """
        request = {
            "arguments": [str(argument) for argument in arguments], "kill_at": kill_at,
            "signals": [(int(number), seconds) for number, seconds in signals], "victim": victim,
            "limits": dict(limits or {}), "copies": str(copies) if copies else None,
        }  # fmt: skip
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        return Outcome(**answer | {"events": tuple(answer["events"])})


class _Counter:
    """Audit hook that writes every file event in `root` to a descriptor and kills the process at one of them."""

    def __init__(self, root: Path, log: int, kill_at: int | None, copies: str | None) -> None:
        self.root, self.log, self.kill_at, self.count = root, log, kill_at, 0
        self.copies, self.copying, self.seen = copies, False, set[int]()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.copying:
            return
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
        if self.copies:
            self.copying = True
            self._copy(self.root / "work", Path(self.copies, str(self.count)))
            self.copying = False
        os.write(self.log, f"{event} {path}\n".encode("utf-8", "backslashreplace"))

    def _copy(self, folder: Path, copy: Path) -> None:
        """Copy the folder, unless an earlier copy equals it."""
        found = sorted(path for path in folder.rglob("*"))
        state = hash(tuple((str(path), path.read_bytes() if path.is_file() else None) for path in found))
        if state not in self.seen:
            self.seen.add(state)
            shutil.copytree(folder, copy)

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


def _run_fork(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as events:
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            _run_here(request, output.fileno(), events.fileno())
        signals = list(request["signals"])
        code, hung, seconds = _watched(child, start, signals, request["victim"])
        texts = []
        for file in (output, events):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
        return {
            "code": code, "output": texts[0], "events": texts[1].splitlines(), "seconds": seconds, "hung": hung,
            "unsent": len(signals),
        }  # fmt: skip


def _watched(child: int, start: float, signals: list[tuple[int, float]], victim: str) -> tuple[int, bool, float]:
    """Send the signals when they are due, and take them from the list.

    Returns:
        The exit code, True if the command had to be killed, and its CPU time in seconds.
    """
    hung = False
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), hung, used.ru_utime + used.ru_stime
        if signals and cpu_seconds(child) >= signals[0][1]:
            pid = child if victim == "command" else _first_child(child)
            if pid:
                os.kill(pid, signals.pop(0)[0])
        elif time.monotonic() - start > LONGEST_S and not hung:
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002 if signals else 0.01)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children, with those that ended and were waited for; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        return own + sum(map(cpu_seconds, _children(pid)))
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _children(parent: int) -> list[int]:
    return [
        int(pid) for task in Path(f"/proc/{parent}/task").iterdir() for pid in (task / "children").read_text().split()
    ]


def _first_child(parent: int) -> int | None:
    return next(iter(_children(parent)), None)


def _set_limits(limits: Mapping[str, int]) -> None:
    import resource

    for name, value in limits.items():
        if name == "RLIMIT_AS":
            value += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        if name == "RLIMIT_NOFILE":
            value += 1 + max(int(path.name) for path in Path("/proc/self/fd").iterdir())
        resource.setrlimit(getattr(resource, name), (value, value))


def _run_here(request: dict[str, Any], output: int, events: int) -> None:
    """Run the command in this process, and end the process."""
    code = 70
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        sys.addaudithook(_Counter(Path.cwd(), events, request["kill_at"], request["copies"]))
        sys.argv = ["tcs-edge", *request["arguments"]]
        from tcs_edge.cli import main

        _set_limits(request["limits"])
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
    """Fill the tables that torch makes at its first export, which take seconds, and keep the one it makes at each."""
    import torch
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
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
        try:
            answers.write(json.dumps(_run_fork(request)) + "\n")
            answers.flush()
        except BrokenPipeError:  # the process that asked has ended
            os._exit(0)


if __name__ == "__main__":
    _serve()
