"""Two processes train one student: same coordinates, same draws, equal weights; differences and deaths are named."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

sys.path.insert(0, str(Path(__file__).parent))
import two_processes as one

gloo = torch.distributed.is_available() and torch.distributed.is_gloo_available()


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def run_two(*arguments: str) -> list[list]:
    """Return the JSON lines of both processes; Gloo of an older torch writes to stdout too."""
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, one.__file__, *arguments],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    printed = [process.communicate(timeout=300)[0].splitlines() for process in processes]
    return [[json.loads(line) for line in lines if not line.startswith("[Gloo]")] for lines in printed]


OTHER_VERSION = """
import sys
from tcs_edge.cli.app import app
from tcs_edge.utils import ranks

versions = ranks.library_versions
ranks.library_versions = lambda: versions() | ({"timm": "0.1"} if ranks.launched().rank else {})
app(["compress", "--target", "raspberrypi4", "--device", "cpu", "--out", sys.argv[1]])
"""


@pytest.mark.skipif(not gloo, reason="torch has no gloo")
def test_machines_with_different_versions_stop_before_the_run(tmp_path: Path) -> None:
    """They were started by MPI, which has variables of its own."""
    of_mpi = {"MASTER_PORT": free_port(), "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    shared = {name: value for name, value in os.environ.items() if name not in ("MASTER_ADDR", "RANK", "WORLD_SIZE")}
    ranked = [{"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_LOCAL_RANK": rank} for rank in ("0", "1")]
    command = [sys.executable, "-c", OTHER_VERSION, str(tmp_path / "run")]
    processes = [
        subprocess.Popen(command, env=shared | of_mpi | own, stderr=subprocess.PIPE, text=True) for own in ranked
    ]
    texts = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], texts
    for text in texts:
        assert f"the processes differ in version of timm: process 0 has {timm.__version__}, process 1 has 0.1." in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not gloo, reason="torch has no gloo")
def test_two_processes_train_one_student(tmp_path: Path) -> None:
    checkpoint = tmp_path / "two.safetensors"
    (first, lost), (second,) = run_two(str(checkpoint))
    assert first["ranks"] == second["ranks"] == ["rank 0", "rank é1"]
    assert first["rows"] == second["rows"] == np.arange(12.0).reshape(4, 3).tolist()
    expected = [np.full((2, 2, 3), row + 1).tolist() for row in range(3)]
    assert first["kept"] == second["kept"] == [*expected, None]
    assert list(tmp_path.iterdir()) == [checkpoint]  # the shared file has lost its name
    for found in (first, second):
        assert found["differ"].startswith("the processes differ in option lr: process 0 has 0, process 1 has 1.")
    torch.set_num_threads(1)
    np.testing.assert_allclose(first["axes"], one.axes(), rtol=0, atol=1e-10)
    assert first["axes"] == second["axes"]
    assert first["weights"] == second["weights"]

    _, log, seen = one.trained(None, 4)
    for whole, halves in zip(seen, zip(first["seen"], second["seen"], strict=True), strict=True):
        kept = len(whole) // 2 * 2  # the halves of a batch are equally large
        assert [halves[place % 2][place // 2] for place in range(kept)] == whole[:kept]
    assert [line["val_accuracy"] for line in first["log"]] == [line["val_accuracy"] for line in second["log"]]
    assert abs(first["log"][-1]["val_accuracy"] - log[-1]["val_accuracy"]) < 0.1
    np.testing.assert_allclose(first["log"][0]["loss"], log[0]["loss"], rtol=0.02)

    longer = tmp_path / "longer.safetensors"
    shutil.copy(checkpoint, longer)
    resumed, log, _ = one.trained(checkpoint, 4, resume=True)  # in one process: nothing is left to train
    assert (one.flat(resumed), log) == (first["weights"], [])
    assert [line["epoch"] for line in one.trained(longer, 6, resume=True)[1]] == [5, 6]
    assert lost.startswith("process 0 of 2 lost the others (")
    assert lost.endswith("Then continue with --resume.")
