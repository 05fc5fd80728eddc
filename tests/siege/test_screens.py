"""Names of files and classes cannot control the terminal."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from tcs_edge.cli.output import print_json
from tcs_edge.report.console import Terminal, print_table, stdout_console, terminal
from tcs_edge.report.text import one_line, visible
from tcs_edge.utils.progress import busy, for_bar, track

logger = logging.getLogger("tcs_edge.siege")

HOSTILE = "x\x1b]0;owned\x07\x1b[31mRED\u009b2J\u202e[bold]b[/bold]\nFAIL"
HARMLESS = one_line(HOSTILE)


def test_nothing_of_a_hostile_name_reaches_the_terminal(capsys):
    with terminal():
        logger.warning("class %s", HOSTILE)
    print_table(("name",), [(HOSTILE,)], title=HOSTILE)
    stdout_console().print(f"image {HOSTILE}")
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [f"warning: class {HARMLESS}"]
    assert not set(captured.out) & set("\x1b\x07\u009b\u202e")
    assert "[bold]b[/bold]" in captured.out


def test_a_bar_and_a_spinner_show_a_hostile_name_as_text(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("CI", raising=False)
    with terminal() as shown:
        assert isinstance(shown, Terminal)
        shown.console.file = io.StringIO()
        for _ in track(range(1), HOSTILE, 1):
            logger.info("epoch", extra=for_bar(HOSTILE))
        with busy(HOSTILE):
            pass
        text = shown.console.file.getvalue()
    assert "\x1b]0;owned" not in text
    assert "[bold]b[/bold]" in text


COMMANDS = ["::stop-commands::x", " ::error::x", "##vso[task.complete]x", "a ##[add-mask]x", "a\n::error::x"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_name_is_not_a_command_for_the_ci_system(capsys, name):
    """GitHub and Azure run lines of the log that look like this."""
    with terminal():
        logger.warning(name)
    stdout_console().print(name)
    print_table(("name",), [(name,)])
    print_json({"image": name})
    captured = capsys.readouterr()
    for line in (captured.err + captured.out).splitlines():
        assert not line.strip().startswith("::")
        assert "##[" not in line
        assert "##vso[" not in line
    assert name in {None, json.loads(captured.out[captured.out.index("{") :])["image"]}


@pytest.mark.parametrize("text", ["a::b", "C++ # 1", "## title", "[x](y)", "a: b"])
def test_colons_and_number_signs_in_names_stay(text):
    assert one_line(text) == text


def test_json_on_a_screen_has_no_control_characters(capsys):
    print_json({"image": HOSTILE + "\x7f\U0001fffe"})
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x07\u009b\u202e\x7f\U0001fffe")
    assert json.loads(shown)["image"] == HOSTILE + "\x7f\U0001fffe"


def test_names_in_a_profile_are_shown_as_text(cli, tmp_path):
    targets = Path(__file__).parents[2]
    target = (targets / "targets" / "raspberrypi4.toml").read_text()
    (tmp_path / "mine.toml").write_text(target.replace('profile = "raspberrypi4"', 'profile = "profile.json"'))
    profile = json.loads((targets / "profiles" / "raspberrypi4.json").read_text())
    row = next(row for row in profile["rows"] if row["source"] != "estimated")
    profile["rows"].append(row | {"model": HOSTILE, "img_size": 224})
    profile["rows"].append(row | {"model": f"lcnet_050{HOSTILE}", "img_size": 64})
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    for more in ((), ("--all",), ("--json",)):
        result = cli("candidates", "--target", tmp_path / "mine.toml", *more)
        assert result.exit_code == 0, result.stderr
        assert not set(result.stdout + result.stderr) & set("\x1b\x07\u009b\u202e")


@pytest.mark.parametrize("text", ["plain", "Stra\u00dfe \u0643\u0644\u0628 \U0001f436", "two\nlines"])
def test_ordinary_text_stays(text):
    assert visible(text) == text


def test_an_error_with_a_hostile_path_is_one_line(cli, tmp_path):
    result = cli("gate", tmp_path / "x\x1b[31m\ny.json", "--max-size-mb", 1)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "\x1b" not in result.stderr


def test_a_hostile_student_in_a_manifest_is_shown_as_text(cli, make_run, tmp_path):
    run = make_run()
    document = json.loads((run / "manifest.json").read_text())
    document["student"]["name"] = document["target"]["name"] = document["parity"]["onnxruntime"]["precision"] = HOSTILE
    document["files"][0]["path"] = "checkpoints/\u202e.bin"
    (run / "manifest.json").write_text(json.dumps(document))
    result = cli("gate", run, "--max-size-mb", 5)
    assert not set(result.output) & set("\x1b\x07\u009b\u202e")
