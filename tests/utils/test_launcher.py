"""Place of a process by its environment, and its part of the machine."""

import os

import pytest
from typer.testing import CliRunner

from tcs_edge.cli.app import app
from tcs_edge.errors import UsageError
from tcs_edge.utils import ranks
from tcs_edge.utils.launcher import ALONE, Ranks, complete_environment, launched, lost_processes, sharded_by


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, ALONE),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, ALONE),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, Ranks(5, 8, 4)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, Ranks(1, 2, 2)),
        ({"WORLD_SIZE": "many"}, ALONE),
    ],
)
def test_the_launcher_gives_each_process_its_place(monkeypatch, variables, place):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched() == place


ONE_OF_TWO = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("variables", "lost"),
    [
        (ONE_OF_TWO, True),
        (ONE_OF_TWO | {"RANK": "0", "WORLD_SIZE": "2"}, False),
        ({"ACCELERATE_MIXED_PRECISION": "no"}, False),
        ({"MASTER_PORT": "29500"}, False),
    ],
)
def test_a_launcher_that_starts_one_process_of_several_is_refused(monkeypatch, variables, lost):
    for name in (*ONE_OF_TWO, "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert lost_processes() == lost
    if lost:
        refused = CliRunner().invoke(app, ["compress", "--target", "raspberrypi4"])
        assert refused.exit_code == 2
        assert "Start them with `torchrun --nproc-per-node N" in refused.output


@pytest.mark.parametrize(("variable", "library"), [("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed")])
def test_a_launcher_that_divides_the_network_is_refused(monkeypatch, variable, library):
    monkeypatch.setenv(f"ACCELERATE_USE_{variable}", "false")
    assert sharded_by() is None
    monkeypatch.setenv(f"ACCELERATE_USE_{variable}", "true")
    refused = CliRunner().invoke(app, ["compress", "--target", "raspberrypi4"])
    assert refused.exit_code == 2
    assert f"accelerate launch is set to {library}" in refused.output


def test_other_launchers_get_the_variables_of_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # to be restored
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1")
    with pytest.raises(UsageError, match="8 processes on several machines, but MASTER_ADDR is not set"):
        complete_environment(Ranks(5, 8, 4))
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    complete_environment(Ranks(5, 8, 4))
    found = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")]
    assert found == ["5", "8", "1", "4", "10.0.0.1"]


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two GPUs, and process 1 of 2; returns the order of calls."""
    calls = []
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", lambda index: calls.append(f"GPU {index}"))
    monkeypatch.setattr("torch.distributed.init_process_group", lambda backend, timeout: calls.append(backend))
    monkeypatch.setattr(ranks, "require_same", lambda facts: calls.append(facts["device"]))
    return calls


def test_each_process_takes_its_gpu_before_it_joins(two_gpus):
    with ranks.joined("auto") as place:
        assert place == ranks.current() == Ranks(1, 2, 2)
    assert two_gpus == ["GPU 1", "cpu:gloo,cuda:nccl", "cuda"]
    assert ranks.current() == ALONE


def test_on_the_cpu_no_gpu_is_taken(two_gpus):
    with ranks.joined("cpu"):
        assert two_gpus == ["gloo", "cpu"]


def test_more_processes_than_gpus_are_refused(two_gpus, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    without = r"process 1 on this machine has no GPU of its own: it sees 1\. .*--device cpu"
    with pytest.raises(UsageError, match=without), ranks.joined("auto"):
        pass
    assert two_gpus == []


def test_processes_of_a_machine_share_its_threads():
    assert [Ranks(0, 4, 4).share(count) for count in (16, 6, 3, 0)] == [4, 1, 1, 0]
    assert ALONE.share(7) == 7


def test_other_commands_run_in_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    refused = CliRunner().invoke(app, ["targets"])
    assert refused.exit_code == 2
    assert "tcs-edge targets runs in one process. Start it without torchrun" in refused.output
