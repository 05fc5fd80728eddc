"""Place of a process by its environment, and its part of the machine."""

import pytest
from typer.testing import CliRunner

from tcs_edge.cli.app import app
from tcs_edge.utils.launcher import ALONE, Ranks, launched, lost_processes


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


def test_processes_of_a_machine_share_its_threads():
    assert [Ranks(0, 4, 4).share(count) for count in (16, 6, 3, 0)] == [4, 1, 1, 0]
    assert ALONE.share(7) == 7


def test_other_commands_run_in_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    refused = CliRunner().invoke(app, ["targets"])
    assert refused.exit_code == 2
    assert "tcs-edge targets runs in one process. Start it without torchrun" in refused.output
