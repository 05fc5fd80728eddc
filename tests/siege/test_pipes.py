"""A pipe in another encoding than UTF-8, as on Windows."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ENCODINGS = [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]


@pytest.mark.parametrize("variables", ENCODINGS, ids=str)
def test_the_gate_answers_with_its_verdict(process, make_run, variables):
    base, head = make_run("base"), make_run("head", weights=1_200_000)
    limits = ("--max-size-mb", 50, "--baseline", base, "--max-change", "size_mb=1")
    done = process("gate", head, *limits, **variables)
    assert done.returncode == 0, done.stderr
    assert "gate: pass" in done.stdout.decode("cp1252")
    if "PYTHONIOENCODING" in variables:
        assert b"<= 50 MB; change 1 MB" in done.stdout
        assert b"^ +0.2 MB" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("gate", "--help"), ("targets",), ("targets", "raspberrypi4"), ("gate", "\udcff\u0142.json")],
    ids=" ".join,
)
def test_other_commands_answer_too(process, arguments):
    done = process(*arguments, PYTHONIOENCODING="cp1252")
    assert done.returncode == (2 if "\udcff\u0142.json" in arguments else 0)
    assert b"Traceback" not in done.stderr


def test_a_name_of_other_bytes_reaches_every_report(process, make_run, tmp_path):
    run = make_run("\udcff")
    reports = ("--json", "--junit", "j.xml", "--markdown", "c.md")
    done = process("gate", run, "--max-size-mb", 0.5, *reports, GITLAB_CI="true", GITHUB_ACTIONS="true")
    assert done.returncode == 1, done.stderr
    assert b"Traceback" not in done.stderr
    assert all((tmp_path / name).stat().st_size for name in ("j.xml", "c.md", "gl-code-quality-report.json"))


LOG_OTHER_BYTES = """
import logging, pathlib, sys
from tcs_edge.utils.logs import logged_to_file

with logged_to_file() as keep_in:
    keep_in(pathlib.Path(sys.argv[1]))
    logging.getLogger("tcs_edge.siege").warning("image \\udcff.jpg")
"""


def test_a_log_file_takes_a_name_of_other_bytes(tmp_path):
    """In a process of its own: the test runner itself cannot report such a line."""
    path = tmp_path / "train.log"
    done = subprocess.run([sys.executable, "-c", LOG_OTHER_BYTES, path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "image \\udcff.jpg" in path.read_text(encoding="utf-8")


def test_json_stays_valid(process, make_run):
    done = process("gate", make_run("\u0142\U0001f436"), "--max-size-mb", 50, "--json", PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"].endswith("\u0142\U0001f436")
