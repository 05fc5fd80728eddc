"""Little or no shared memory: loaders go on without worker processes, or end in one line with the advice."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from tcs_edge.data import Preprocess, Split, workers
from tcs_edge.data.augment import Augment
from tcs_edge.data.loader import training_loader
from tcs_edge.data.rand_augment import RandAugment
from tcs_edge.data.workers import WorkerLoader, Workers
from tcs_edge.errors import MissingError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux alone")

LOADS = """
import numpy as np
from tcs_edge.data import Preprocess, Split
from tcs_edge.data.loader import evaluation_loader
split = Split(np.zeros((90, 8, 8, 3), np.uint8), np.zeros(90, np.int64), tuple(map(str, range(90))))
print(sum(len(labels) for _, labels, _ in evaluation_loader(split, Preprocess(224), 16, workers=2)))
"""


@pytest.mark.parametrize("longest", [75, 76, 90])
def test_loading_goes_on_with_a_temporary_folder_too_long_for_sockets(tmp_path, longest):
    folder = tmp_path / ("t" * max(1, longest - len(str(tmp_path)) - 1))
    folder.mkdir()
    (tmp_path / "loads.py").write_text(LOADS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(folder)}
    command = [sys.executable, "loads.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "90\n", done.stderr


@pytest.mark.parametrize("mount", ["size=64k", "size=8m", "ro", "size=1g"])
def test_loading_goes_on_with_any_shared_memory(tmp_path, mount):
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    (tmp_path / "loads.py").write_text(LOADS)
    command = f"mount -t tmpfs -o {mount} tmpfs /dev/shm && exec {sys.executable} loads.py"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command],
        capture_output=True, text=True, timeout=100, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "90\n", "")


@pytest.mark.parametrize("free_batches", [0, 5])
def test_too_little_shared_memory_means_threads(monkeypatch, free_batches):
    monkeypatch.setattr(workers, "free_shared_memory", lambda: free_batches * 1000)
    assert Workers.for_batches(9, 2, 1000).context is None
    assert Workers.for_batches(9, 2, 1000).count == 2
    assert Workers.for_batches(9, 2, 1000, threads=False).count == 0
    assert Workers.for_batches(9, 1, 1000).context is (None if free_batches < 4 else workers.fork_context())


def test_random_augmentation_does_not_depend_on_shared_memory(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (23, 10, 11, 3), dtype=np.uint8)
    split = Split(pixels, np.arange(23) % 3, tuple(map(str, range(23))))
    augment = Augment("crop-flip", Preprocess(8), distortion=RandAugment(9))
    found = []
    for free in (10**12, 0):
        monkeypatch.setattr(workers, "free_shared_memory", lambda free=free: free)
        found.append(torch.cat([batch[0] for batch in training_loader(split, augment, 4, 1, 2, 2)]))
    assert torch.equal(*found)


FULL = "unable to allocate shared memory(shm) for file </torch_1_2_3>"


class Full(Dataset):
    """Items that fail as torch does when shared memory is full."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        raise RuntimeError(f"{FULL}: No space left on device (28)")


def loader(data: Dataset) -> WorkerLoader:
    return WorkerLoader(data, Workers.for_batches(4, 1), 1, batch_size=None, sampler=range(4))


def test_shared_memory_that_fills_up_is_one_line_with_advice():
    with pytest.raises(MissingError) as caught:
        list(loader(Full()))
    assert str(caught.value) == (
        f"a worker stopped, often for lack of memory: {FULL}: No space left on device (28). Pass fewer --workers, or "
        "--workers 0. In a container, give it more shared memory: docker run --shm-size=1g."
    )
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EAGAIN, errno.EMFILE])
def test_a_process_that_cannot_start_is_one_line_with_advice(monkeypatch, number):
    def fork() -> int:
        raise OSError(number, os.strerror(number))

    some = loader(Full())
    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(MissingError, match=r"^a worker stopped[^\n]*Pass fewer --workers") as caught:
        list(some)
    assert os.strerror(number) in str(caught.value)


def test_missing_semaphores_mean_threads(monkeypatch):
    def refused(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "no semaphores")

    monkeypatch.setattr("multiprocessing.context.BaseContext.Condition", refused)
    some = Workers.for_batches(9, 2, 1000)
    assert (some.count, some.context) == (2, None)
