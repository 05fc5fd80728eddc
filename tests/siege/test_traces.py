"""System calls of whole commands: no internet connection, no other program, no write outside run, cache and temporary
files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CALLS = (
    "execve,execveat,connect,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,"
    "symlink,symlinkat,truncate"
)
LINE = re.compile(r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
FOLDER = re.compile(r"(?:AT_FDCWD|\d+)<(?P<path>/[^>]*)>")
# They only look something up: platform.platform() runs uname, the import of a torch with CUDA ldconfig, and that of
# numpy.testing 2.1 lscpu.
HELPERS = {"uname", "ldconfig", "lscpu"}
# Not files: the terminal, nothing, and shared memory of data workers.
DEVICES = ("/dev/null", "/dev/tty", "/dev/shm", "/proc/self", "/dev/pts")


def usable() -> bool:
    if not sys.platform.startswith("linux") or not shutil.which("strace"):
        return False
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, check=False)
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(not usable(), reason="needs strace, and the right to trace")


@dataclass(frozen=True)
class Trace:
    """What a command did: internet addresses, started programs, and changed paths."""

    connections: list[str]
    programs: list[str]
    changed: list[Path]

    def outside(self, *folders: Path) -> list[Path]:
        allowed = [folder.resolve() for folder in folders]
        return [
            path for path in self.changed
            if not str(path).startswith(DEVICES) and not any(path.is_relative_to(folder) for folder in allowed)
        ]  # fmt: skip


def parse(text: str, folder: Path) -> Trace:
    """Read the output of strace; relative paths start in `folder`."""
    connections, programs, changed = [], [], []
    for line in text.splitlines():
        if not (found := LINE.match(line.replace("<unfinished ...>", "") if " = " in line else line)):
            continue
        name, arguments, result = found["name"], found["arguments"], int(found["result"])
        if name == "connect" and ("AF_INET" in arguments):
            connections.append(arguments)
        elif name.startswith("execve") and result == 0:
            programs.append(TEXT.findall(arguments)[0])
        elif result >= 0 and name != "connect" and (not name.startswith("open") or WRITING.search(arguments)):
            folders = [Path(folder["path"]) for folder in FOLDER.finditer(arguments)]
            for number, path in enumerate(TEXT.findall(arguments)):
                place = folders[min(number, len(folders) - 1)] if folders else folder
                changed.append(Path(os.path.normpath(place / path)))
    return Trace(connections, programs, changed)


@pytest.fixture
def traced(tmp_path):
    """traced(sys.executable, "-m", "tcs_edge", ...): run a command under strace; return its `Trace`.

    It runs in tmp_path, or in the folder `place`.
    """

    def run(*command: object, place: Path = tmp_path) -> Trace:
        out, temporary = tmp_path / "trace.txt", tmp_path / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = os.environ | {
            "TMPDIR": str(temporary), "TCS_EDGE_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path / "home"),
            "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }  # fmt: skip
        environment.pop("XDG_CACHE_HOME", None)
        strace = ["strace", "-f", "-y", "-qq", "-s", "4096", "-o", out, "--seccomp-bpf", "-e", f"trace={CALLS}"]
        done = subprocess.run(
            [*strace, *map(str, command)], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return parse(out.read_text(errors="replace"), place)

    return run


def command(*arguments: object) -> tuple[object, ...]:
    return (sys.executable, "-m", "tcs_edge", *arguments)


def harmless(trace: Trace, *folders: Path) -> None:
    assert trace.connections == []
    assert trace.programs[0] == sys.executable
    assert {Path(program).name for program in trace.programs[1:]} <= HELPERS
    assert trace.outside(*folders) == []


def test_the_trace_shows_a_connection_a_program_and_a_write(traced, tmp_path):
    code = (
        "import os, socket\nos.mkdir('made'); open('written', 'w'); os.rename('written', 'renamed')\n"
        "os.system('true')\n"
        "s = socket.socket(); s.settimeout(0.01)\ntry: s.connect(('127.0.0.1', 9))\nexcept OSError: pass"
    )
    trace = traced(sys.executable, "-c", code)
    assert len(trace.connections) == 1
    assert trace.programs[0] == sys.executable
    assert len(trace.programs) > 1
    assert {path.name for path in trace.outside(tmp_path / "tmp")} == {"made", "written", "renamed"}
    assert trace.outside(tmp_path) == []


def test_the_gate_changes_nothing(traced, tmp_path, make_run):
    run = make_run()
    harmless(traced(*command("gate", run, "--max-size-mb", 50)))


@pytest.mark.slow
def test_a_report_is_written_into_the_run_alone(traced, own_run):
    harmless(traced(*command("report", own_run)), own_run)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["selfcheck.py", "classify.py"])
def test_the_scripts_of_a_bundle_write_their_result_alone(traced, tmp_path, cli, finished, photos, script):
    bundle = tmp_path / "bundle"
    assert cli("bundle", finished, "--out", bundle).exit_code == 0
    more = [photos / "test" / "red" / "01.png"] if script == "classify.py" else []
    harmless(traced(sys.executable, "-I", script, *more, place=bundle), bundle, tmp_path / "tmp")


@pytest.mark.slow
def test_the_demo_writes_its_run_and_its_cache_alone(traced, tmp_path):
    """The demo as a new user runs it, with data workers and in fewer epochs."""
    demo = command("compress", "--target", "raspberrypi", "--out", "run", "--workers", 2, "--epochs", 6)
    harmless(traced(*demo), tmp_path / "run", tmp_path / "cache", tmp_path / "tmp")


@pytest.mark.slow
def test_a_run_its_validation_and_its_bundle_write_their_own_folders_alone(traced, tmp_path, tiny):
    run, out, cache, temporary = (tmp_path / name for name in ("run", "out", "cache", "tmp"))
    out.mkdir()
    arguments = tiny(student="test_resnet", img_size=32, epochs=2, cache_dir=cache)
    harmless(traced(*command(*arguments, "--out", run)), run, cache, temporary)
    harmless(traced(*command("validate", run)), cache, temporary)
    harmless(traced(*command("bundle", run, "--out", out / "bundle")), out, cache, temporary)
