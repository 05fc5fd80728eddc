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
import torch

sys.path.insert(0, str(Path(__file__).parent))
import two_processes as one

gloo = torch.distributed.is_available() and torch.distributed.is_gloo_available()


def run_two(*arguments: str) -> list[list]:
    """Return the JSON lines of both processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, one.__file__, *arguments],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    return [[json.loads(line) for line in process.communicate(timeout=300)[0].splitlines()] for process in processes]


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
