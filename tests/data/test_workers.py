"""Loading ahead in processes and threads: plain scripts, daemons, and the memory of images in flight."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import Dataset

from tcs_edge.data import Preprocess, Split, workers
from tcs_edge.data.augment import Augment
from tcs_edge.data.loader import TrainingBatches, evaluation_loader, training_loader
from tcs_edge.data.rand_augment import RandAugment
from tcs_edge.data.workers import WorkerLoader, Workers, fork_context
from tcs_edge.errors import DataError, MissingError

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux alone")


@pytest.fixture
def without_fork(monkeypatch):
    monkeypatch.setattr(workers, "sys", types.SimpleNamespace(platform="darwin"))


def split_of(count: int) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 10, 11, 3), dtype=np.uint8)
    return Split(pixels, np.arange(count) % 3, tuple(map(str, range(count))))


def rows(loader):
    return [[column.numpy().tobytes() for column in batch] for batch in loader]


def run(script: Path, *, piped: bool = False, timeout: float = 100) -> subprocess.CompletedProcess:
    """Run a script in a process of its own, from its file or through stdin."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, *([] if piped else [script.name])]
    text = script.read_text() if piped else None
    return subprocess.run(
        command, input=text, capture_output=True, text=True, cwd=script.parent, timeout=timeout, env=environment
    )


@pytest.mark.usefixtures("without_fork")
@pytest.mark.parametrize("distortion", [RandAugment(), RandAugment(9)])
def test_threads_do_not_change_the_batches(distortion):
    augment = Augment("crop-flip", Preprocess(8), distortion=distortion)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    batches = [rows(training_loader(split_of(23), augment, 4, 1, 2, count)) for count in (0, 1, 3)]
    assert batches[0] == batches[1] == batches[2]
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.usefixtures("without_fork")
def test_an_unreadable_image_is_a_data_error_in_a_thread_too(tmp_path):
    names = ("a.png", "b.png", "c.png")
    split = Split(tuple(tmp_path / name for name in names), np.zeros(3, np.int64), names)
    with pytest.raises(DataError, match=r"^cannot read image [^\n]*a\.png[^\n]*$"):
        list(evaluation_loader(split, Preprocess(8), 1, workers=2))


def test_one_batch_needs_no_worker():
    assert Workers.for_batches(1, 4).count == 0
    assert Workers.for_batches(0, 4).count == 0
    assert Workers.for_batches(3, 4).count == 3
    assert Workers.for_batches(9, 4).count == 4


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("batch_bytes", "ahead"), [(1_000_000, 2), (62_500_000, 2), (62_600_000, 1), (10**9, 1)])
def test_fewer_large_batches_are_loaded_ahead(batch_bytes, ahead):
    some = Workers.for_batches(9, 4)
    loader = WorkerLoader(split_of(9), some, batch_bytes, batch_size=None, sampler=range(9))
    assert loader.ahead == ahead


class Held(Dataset):
    """Items that hold `cost` bytes of the budget for some time; start and end are lines of a file."""

    def __init__(self, cost: int, workers: Workers, log: Path) -> None:
        self.cost, self.budget, self.log = cost, workers.budget, log

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> int:
        with self.budget.held(self.cost):
            self._note("start")
            time.sleep(0.01)
            self._note("end")
        return index

    def _note(self, word: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{word}\n")


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("forked", [pytest.param(True, marks=LINUX), False])
@pytest.mark.parametrize(("cost", "most"), [(60, 1), (40, 2), (5000, 1)])
def test_workers_share_one_budget(monkeypatch, tmp_path, forked, cost, most):
    monkeypatch.setattr(workers, "BYTES_IN_FLIGHT", 100)
    if not forked:
        monkeypatch.setattr(workers, "fork_context", lambda: None)
    some = Workers.for_batches(12, 3)
    data = Held(cost, some, tmp_path / "log")
    loader = WorkerLoader(data, some, 1, batch_size=None, sampler=range(12))
    assert [int(index) for index in loader] == list(range(12))
    now = reached = 0
    for word in (tmp_path / "log").read_text().split():
        now += 1 if word == "start" else -1
        reached = max(reached, now)
    assert now == 0
    assert reached <= most


@pytest.mark.usefixtures("without_fork")
@pytest.mark.parametrize(("budget", "most"), [(1, 1), (workers.BYTES_IN_FLIGHT, 2)])
def test_files_of_a_loader_are_decoded_within_the_budget(monkeypatch, tmp_path, fill, budget, most):
    fill(tmp_path, 8)
    paths = tuple(sorted(tmp_path.glob("*.png")))
    split = Split(paths, np.zeros(8, np.int64), tuple(path.name for path in paths))
    monkeypatch.setattr(workers, "BYTES_IN_FLIGHT", budget)
    lock, state = threading.Lock(), {"now": 0, "most": 0}
    decode = Split.image

    def count(self, index):
        with lock:
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
        time.sleep(0.02)
        with lock:
            state["now"] -= 1
        return decode(self, index)

    monkeypatch.setattr(Split, "image", count)
    assert len(list(evaluation_loader(split, Preprocess(8), 1, workers=2))) == 8
    assert state["most"] == most


class Killed(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)


@LINUX
def test_a_killed_worker_is_one_line_with_a_fix():
    loader = WorkerLoader(Killed(), Workers.for_batches(4, 1), 1, batch_size=None, sampler=range(4))
    with pytest.raises(MissingError, match=r"a worker stopped.*Pass fewer --workers") as caught:
        list(loader)
    assert "\n" not in str(caught.value)


PLAIN = """
import types
import numpy as np
import tcs_edge.data.workers as workers
from tcs_edge.data import Preprocess, Split
from tcs_edge.data.loader import evaluation_loader
with open("runs", "a") as file:
    file.write("x")
workers.sys = types.SimpleNamespace(platform="PLATFORM")
split = Split(np.zeros((9, 8, 8), np.uint8), np.zeros(9, np.int64), tuple(map(str, range(9))))
print(sum(len(labels) for _, labels, _ in evaluation_loader(split, Preprocess(8), 2, workers=2)))
"""


@pytest.mark.parametrize(
    ("platform", "piped"), [("darwin", False), ("win32", True), pytest.param("linux", False, marks=LINUX)]
)
def test_a_plain_script_loads_with_workers_and_runs_once(tmp_path, platform, piped):
    script = tmp_path / "plain.py"
    script.write_text(PLAIN.replace("PLATFORM", platform))
    done = run(script, piped=piped)
    assert (done.returncode, done.stdout, done.stderr) == (0, "9\n", "")
    assert (tmp_path / "runs").read_text() == "x"


@LINUX
def test_the_start_method_of_the_user_does_not_matter(tmp_path):
    script = tmp_path / "plain.py"
    start = "import multiprocessing\nmultiprocessing.set_start_method('spawn')\n"
    script.write_text(start + PLAIN.replace("PLATFORM", "linux"))
    done = run(script)
    assert (done.returncode, done.stdout) == (0, "9\n"), done.stderr
    assert (tmp_path / "runs").read_text() == "x"


POOL = """
import multiprocessing
import numpy as np
from tcs_edge.data import Preprocess, Split
from tcs_edge.data.loader import evaluation_loader

def load(count):
    split = Split(np.zeros((count, 8, 8), np.uint8), np.zeros(count, np.int64), tuple(map(str, range(count))))
    return sum(len(labels) for _, labels, _ in evaluation_loader(split, Preprocess(8), 2, workers=2))

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(load, [9, 5]))
"""


@LINUX
def test_a_process_of_a_pool_loads_with_workers(tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    done = run(script)
    assert (done.returncode, done.stdout) == (0, "[9, 5]\n"), done.stderr


@LINUX
def test_workers_are_forked_in_the_main_process():
    assert fork_context() is not None


class Pids:
    """A view that is the number of the process that made it."""

    def stored(self, _index):
        return np.frombuffer(os.getpid().to_bytes(4, "little") * 48, np.uint8).reshape(8, 8, 3)


@LINUX
def test_workers_of_the_training_stay_between_epochs_and_end_with_it(monkeypatch):
    batches = TrainingBatches(split_of(12), Augment("crop", Preprocess(8)), 4, seed=0, workers=2)
    monkeypatch.setattr(batches.loader.dataset, "view", Pids())
    monkeypatch.setattr(batches.loader, "normalized", lambda views: views)
    pids = []
    for epoch in range(3):
        views = torch.cat([batch[0] for batch in batches.of_epoch(epoch)])
        pids.append({int.from_bytes(view.numpy().tobytes()[:4], "little") for view in views})
    assert len(pids[0]) == 2
    assert pids[0] == pids[1] == pids[2]
    assert all(psutil.pid_exists(pid) for pid in pids[0])
    batches.close()
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in pids[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in pids[0])


def test_epochs_of_lasting_workers_equal_those_of_new_loaders():
    images, augment = split_of(12), Augment("crop-flip", Preprocess(8))
    batches = TrainingBatches(images, augment, 4, seed=3, workers=2)
    try:
        for epoch in (0, 1, 5):
            again = training_loader(images, augment, 4, 3, epoch)
            for one, other in zip(batches.of_epoch(epoch), again, strict=True):
                assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
    finally:
        batches.close()
