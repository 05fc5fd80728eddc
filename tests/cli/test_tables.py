"""The commands that only show: targets, candidates, doctor, help and version."""

from __future__ import annotations

import json

import pytest
import typer

from tcs_edge import __version__
from tcs_edge.cli.app import app

COMMANDS = sorted(typer.main.get_command(app).commands)


def test_version(cli):
    assert cli("--version").stdout == f"tcs-edge {__version__}\n"


def test_help_names_every_command(cli):
    text = cli("--help").stdout
    assert {"compress", "targets", "candidates", "validate", "predict", "doctor"} <= set(COMMANDS)
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is_for(command):
    group = typer.main.get_command(app).commands[command]
    inner = [parameter for below in getattr(group, "commands", {}).values() for parameter in below.params]
    parameters = [*group.params, *inner]
    silent = [parameter.name for parameter in parameters if not getattr(parameter, "help", None)]
    assert parameters
    assert silent == []


def test_targets(cli):
    documents = json.loads(cli("targets", "--json").stdout)["targets"]
    names = {document["name"] for document in documents}
    assert {"raspberrypi4", "raspberrypi5"} <= names
    table = cli("targets").stdout
    assert all(name in table for name in names)
    one = json.loads(cli("targets", "raspberrypi4", "--json").stdout)
    assert one["name"] == "raspberrypi4"


def test_a_shown_target_can_be_used_as_a_file(cli, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(cli("targets", "raspberrypi4").stdout)
    shown, again = cli("targets", "raspberrypi4", "--json"), cli("targets", path, "--json")
    assert json.loads(again.stdout) == json.loads(shown.stdout)


def test_candidates_say_why_they_are_out(cli):
    result = cli("candidates", "--target", "raspberrypi4", "--max-params-m", 3, "--json")
    candidates = json.loads(result.stdout)["candidates"]
    assert candidates
    for candidate in candidates:
        too_large = candidate["params_m"] > 3
        assert bool([why for why in candidate["rejected_because"] if "param" in why]) == too_large
    assert {bool(candidate["rejected_because"]) for candidate in candidates} == {True, False}


def test_candidates_as_a_table_have_one_line_each(cli):
    names = [
        c["name"] for c in json.loads(cli("candidates", "--target", "raspberrypi4", "--json").stdout)["candidates"]
    ]
    lines = cli("candidates", "--target", "raspberrypi4").stdout.splitlines()
    assert [line.split()[0] for line in lines[1 : lines.index("")]] == names


def test_candidates_draw_the_front(cli):
    arguments = ("candidates", "--target", "raspberrypi4", "--max-latency-ms", 100)
    document, text = json.loads(cli(*arguments, "--json").stdout), cli(*arguments).stdout
    assert document["front"]
    below = text.split("no other that fits is more accurate, faster and smaller:")[1]
    assert [line.split(":")[0].strip() for line in below.splitlines()[1:]][: len(document["front"])] == document[
        "front"
    ]
    assert "o front" in below
    assert all(name in below for name in document["left_out"])


def test_an_unknown_target(cli):
    for command in (("targets", "raspberypi4"), ("candidates", "--target", "raspberypi4")):
        result = cli(*command)
        assert result.exit_code == 2
        assert "raspberrypi4" in result.stderr
