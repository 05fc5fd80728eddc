"""Stop signals and killed parents: no process is left, no traceback is printed, and the next step is named."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals and process groups")

# A background job ignores Ctrl-C and SIGHUP from its start, and these tests may run in one.
START = "import signal, sys; [signal.signal(number, signal.SIG_DFL) for number in (1, 2, 15)]; "
MAIN = START + "from tcs_edge.cli import main; print('started', flush=True); main()"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Started:
    """A process in its own group; its output goes to files, which no orphan can keep open."""

    def __init__(self, folder: Path, code: str, *arguments: object) -> None:
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)],
                stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True, env=environment, cwd=folder,
            )  # fmt: skip

    def wait_for(self, reached: Callable[[], object]) -> Any:
        end = time.monotonic() + 100
        while not (found := reached()):
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() < end
            time.sleep(0.01)
        return found

    def children(self, count: int) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children(recursive=True)
        return found if len(found) >= count else []

    def stop(self, number: int, group: bool = False) -> int:
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self.process.wait(timeout=60)

    def messages(self) -> list[str]:
        text = self.err.read_text()
        assert "Traceback" not in text, text
        assert "Exception ignored" not in text, text
        return text.splitlines()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Started]]:
    """start(code, ...): a `Started` in the test's folder; whatever is left of its group ends with the test."""
    made = []

    def run(code: str, *arguments: object) -> Started:
        made.append(Started(tmp_path, code, *arguments))
        return made[-1]

    yield run
    for one in made:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()


def commands(processes: list[psutil.Process]) -> Iterator[str]:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            yield from process.cmdline()


def gone(processes: list[psutil.Process], seconds: float = 3) -> bool:
    """Wait until all processes have ended; a zombie has."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def training(start, tiny, tmp_path) -> Started:
    """A `compress` with two data workers, in its training."""
    one = start(MAIN, *tiny(workers=2, epochs=400, batch_size=8, method="ce", teacher=None, teacher_weights=None,
                            teacher_img_size=None), "--out", tmp_path / "run")  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    one.wait_for(lambda: metrics.is_file() and metrics.stat().st_size)
    return one


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("number", CODES)
def test_a_stopped_run_names_the_next_step_and_leaves_no_process(training, tmp_path, number, group):
    workers = training.wait_for(lambda: training.children(2))
    assert training.stop(number, group) == CODES[number]
    assert gone(workers)
    lines = training.messages()
    assert f"warning: stopped. Continue with: tcs-edge compress --resume {tmp_path / 'run'}" in lines
    assert lines[-1] == "interrupted"


@pytest.mark.slow
def test_workers_of_a_killed_run_end(training):
    workers = training.wait_for(lambda: training.children(2))
    assert training.stop(signal.SIGKILL) == -signal.SIGKILL
    assert gone(workers)


@pytest.mark.slow
def test_a_second_signal_at_once_does_not_cut_the_message(training):
    os.kill(training.process.pid, signal.SIGTERM)
    time.sleep(0.02)
    # If a busy process finds both, Python handles the one with the lower number first.
    assert training.stop(signal.SIGINT) in (143, 130)
    assert training.messages()[-1] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("later_s", [0, 4])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_process_of_a_bench_ends_with_it(start, photos, tmp_path, number, later_s):
    bench = start(
        MAIN, "bench", "--data", photos, "--methods", "ce", "--seeds", 1, "--budget", "400-epochs", "--student",
        "lcnet_050", "--student-init", "random", "--img-size", 32, "--threads", 1, "--workers", 2, "--device", "cpu",
        "--out", tmp_path / "bench",
    )  # fmt: skip
    bench.wait_for(lambda: any("tcs_edge.bench.worker" in word for word in commands(bench.children(1))))
    time.sleep(later_s)  # at once: while it imports; later: with data workers of its own
    workers = bench.children(1)
    code = bench.stop(number)
    assert gone(workers)
    if number != signal.SIGKILL:
        assert code == CODES[number]
        assert bench.messages()[-2:] == [
            "warning: stopped. Finished runs are kept. Continue with the same command.",
            "interrupted",
        ]


MEASURE = (
    START
    + """
import os
from pathlib import Path
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(sys.argv[1]).parent), os.environ.get("PYTHONPATH", "")])
from tcs_edge.profiling.device.graphs import Key
from tcs_edge.profiling.device.memory import added_memory_mb
added_memory_mb(Path(sys.argv[1]), Key("a", 32, "onnxruntime", 1, "fp32"))
"""
)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_process_of_a_profile_ends_with_it(start, tmp_path, number):
    (tmp_path / "onnxruntime.py").write_text("import time; time.sleep(600)", encoding="utf-8")
    profile = start(MEASURE, tmp_path / "graph.onnx")
    measuring = profile.wait_for(lambda: profile.children(1))
    time.sleep(1)
    assert profile.stop(number) == -number
    assert gone(measuring)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["compress", "gate", "candidates"])
@pytest.mark.parametrize("after_ms", [5, 50, 150, 300, 600, 1000, 1500, 2000, 2500, 3500])
def test_ctrl_c_while_modules_are_imported_is_one_line(start, tiny, tmp_path, command, after_ms):
    arguments = {
        "compress": (*tiny(epochs=400), "--out", tmp_path / "run"),
        "gate": ("gate", tmp_path, "--max-size-mb", 1),
        "candidates": ("candidates", "--target", "raspberrypi4"),
    }[command]
    one = start(MAIN, *arguments)
    one.wait_for(one.out.read_text)
    time.sleep(after_ms / 1000)
    if one.process.poll() is None and one.stop(signal.SIGINT) == 130:
        assert one.messages()[-1:] in (["interrupted"], [])
    one.messages()


SWALLOWED = (
    START
    + """
import time
from tcs_edge.utils.stop import Stopped, exit_code, handle_stop_signals
handle_stop_signals()
class Deaf:
    def __del__(self):
        print("started", flush=True)
        time.sleep(60)
one = Deaf()
try:
    del one
    time.sleep(60)
except Stopped as stop:
    sys.exit(exit_code(stop.number))
"""
)


def test_a_signal_in_a_finalizer_is_not_lost(start):
    one = start(SWALLOWED)
    one.wait_for(one.out.read_text)
    time.sleep(0.1)
    assert one.stop(signal.SIGTERM) == 143
    assert one.messages() == []


TWICE = (
    START
    + """
import threading, time
from tcs_edge.utils.stop import Stopped, exit_code, handle_stop_signals
handle_stop_signals()
start = threading.Timer.start
def started(timer):
    signal.raise_signal(signal.SIGINT)
    start(timer)
threading.Timer.start = started
class Deaf:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
begun = time.monotonic()
try:
    Deaf()
    time.sleep(60)
except Stopped as stop:
    print(time.monotonic() - begun)
    sys.exit(exit_code(stop.number))
"""
)


def test_a_second_signal_does_not_lose_one_that_a_finalizer_dropped(start):
    """The second one arrives while the first one is about to be repeated."""
    one = start(TWICE)
    assert one.process.wait(timeout=60) == 143
    assert float(one.out.read_text()) < 3  # the last resort comes after REPEAT_SECONDS
    assert one.messages() == []


IGNORED = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from tcs_edge.utils.stop import handle_stop_signals
handle_stop_signals()
os.kill(os.getpid(), signal.SIGHUP)
print("goes on")
"""


def test_nohup_is_respected(start):
    one = start(IGNORED)
    assert one.process.wait(timeout=60) == 0
    assert one.out.read_text() == "goes on\n"


SLOW_END = (
    START
    + """
import time
from tcs_edge.utils import stop
stop.REPEAT_SECONDS = 0.2
stop.handle_stop_signals()
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(1)
slow = Slow()
try:
    print("started", flush=True)
    time.sleep(60)
except stop.Stopped as stopped:
    stop.leave_soon()
    sys.exit(stop.exit_code(stopped.number))
"""
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_slow_end_of_the_interpreter_keeps_the_exit_code(start, number):
    one = start(SLOW_END)
    one.wait_for(one.out.read_text)
    assert one.stop(number) == CODES[number]


# A loader with two workers. Each test adds what its workers do, and when the main process is stopped.
WORKERS = (
    START
    + """
import contextlib, os, threading, time
from multiprocessing import connection
import torch
from tcs_edge.data.workers import Workers, WorkerLoader
from tcs_edge.utils.stop import Stopped, exit_code, handle_stop_signals
OWNER, CASE = os.getpid(), sys.argv[1]
class Finalized:
    def __del__(self):
        raise ValueError("finalizer")
class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return self.fail() if index == 7 else torch.zeros(4)
    def fail(self):
        open("working", "w").close()
        time.sleep(SECONDS)
        if CASE == "thread":
            threading.Thread(target=lambda: int("x")).start()
        if CASE == "finalizer":
            Finalized()
        if CASE == "worker":
            raise GeneratorExit("ends the process")
        if CASE == "batch":
            return lambda: "cannot be pickled"
        time.sleep(0.3)
        return torch.zeros(4)
loader = WorkerLoader(Images(), Workers.for_batches(8, 2), 16, batch_size=None)
"""
)
STOPPED_WHILE = (
    WORKERS
    + """
SECONDS = 0.5
handle_stop_signals()
try:
    for _ in loader:
        print("started", flush=True)
except Stopped as stop:
    with contextlib.suppress(RuntimeError):  # torch raises it when a worker ends
        time.sleep(1.5)
    sys.exit(exit_code(stop.number))
"""
)


@pytest.mark.parametrize(
    ("case", "number"),
    [("thread", signal.SIGINT), ("finalizer", signal.SIGHUP), ("worker", signal.SIGTERM), ("batch", signal.SIGTERM)],
)
def test_errors_of_a_worker_after_a_stop_are_not_printed(start, tmp_path, case, number):
    one = start(STOPPED_WHILE, case)
    one.wait_for((tmp_path / "working").exists)
    assert one.stop(number) == CODES[number]
    assert one.messages() == []


@pytest.mark.parametrize(
    ("case", "printed"),
    [("thread", "invalid literal for int"), ("finalizer", "ValueError: finalizer"), ("worker", "ends the process"),
     ("batch", "pickle")],
)  # fmt: skip
def test_errors_of_a_worker_without_a_stop_are_printed(start, tmp_path, case, printed):
    one = start(STOPPED_WHILE, case)
    one.wait_for(lambda: printed in one.err.read_text())


HANDSHAKE = (
    WORKERS
    + """
SECONDS = 0
answer = connection.answer_challenge
def interrupted(*words):  # the main process fetches a batch
    if os.getpid() == OWNER:
        if CASE == "stop":
            signal.raise_signal(signal.SIGTERM)
        raise KeyboardInterrupt
    answer(*words)
connection.answer_challenge = interrupted
if CASE == "stop":
    handle_stop_signals()
try:
    list(loader)
except KeyboardInterrupt:
    time.sleep(1)
    print("interrupted")
"""
)


@pytest.mark.parametrize("case", ["stop", "script"])
def test_a_stop_in_the_handshake_with_a_worker_prints_nothing(start, case):
    """A script of a user has no handlers of tcs-edge, so its workers cannot see the request to stop."""
    one = start(HANDSHAKE, case)
    assert one.process.wait(timeout=60) == 0
    assert one.out.read_text() == "interrupted\n"
    assert one.messages() == []


HELPER_THREAD = (
    START
    + """
import threading, time
from tcs_edge.utils.stop import Stopped, exit_code, handle_stop_signals
handle_stop_signals()
def serve():
    while True:
        try:
            raise ValueError("lost its worker")
        except ValueError:
            time.sleep(0.3)
            if sys.argv[1] == "hook":
                sys.excepthook(*sys.exc_info())
            else:
                raise
try:
    print("started", flush=True)
    time.sleep(60 if sys.argv[2] == "stopped" else 0)
except Stopped as stop:
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    time.sleep(1)
    sys.exit(exit_code(stop.number))
threading.Thread(target=serve, daemon=True).start()
time.sleep(1)
"""
)


@pytest.mark.parametrize("how", ["hook", "raise"])
def test_helper_threads_of_a_stopped_process_print_nothing(start, how):
    one = start(HELPER_THREAD, how, "stopped")
    one.wait_for(one.out.read_text)
    assert one.stop(signal.SIGTERM) == 143
    assert one.messages() == []


@pytest.mark.parametrize("how", ["hook", "raise"])
def test_helper_threads_without_a_stop_report(start, how):
    one = start(HELPER_THREAD, how, "running")
    assert one.process.wait(timeout=60) == 0
    assert "ValueError: lost its worker" in one.err.read_text()
