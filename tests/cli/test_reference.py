"""README and docs speak of commands, options and files that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from tcs_edge.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_OTHERS = {"--help"}


def commands() -> dict:
    return typer.main.get_command(app).commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_named_exists(page):
    known = {option for command in commands().values() for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"(?:`| )(--[a-z][a-z0-9-]+)", _own_words(page.read_text(encoding="utf-8"))))
    assert named - known - OF_OTHERS == set()


def _own_words(text: str) -> str:
    """Without lines that run other programs."""
    return "\n".join(line for line in text.splitlines() if not re.search(r"python3? |pip |pytest", line))


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in commands() if f"| `{name}" not in text] == []


def test_every_file_of_a_finished_run_is_in_the_readme(finished):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text.replace("openvino/model.{xml,bin}", "openvino/model.xml export/openvino/model.bin")
    files = [path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()]
    assert [name for name in files if name not in text and name != "tcs-edge-run.json"] == []
