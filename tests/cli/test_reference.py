"""Tests of commands, options and files named in README and docs."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer

from tcs_edge.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OF_OTHERS = {"--help", "--logdir", "--nnodes", "--node-rank", "--rdzv-endpoint"}
DEVICE_FILES = ROOT / "tcs_edge" / "bundle" / "device_files"


def commands() -> dict:
    return typer.main.get_command(app).commands


def load_script(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cli_reference_is_up_to_date():
    made = load_script(ROOT / "tools" / "make_cli_reference.py")
    assert made.PAGE.read_text(encoding="utf-8") == made.reference(), "run: python tools/make_cli_reference.py"


def examples() -> list[str]:
    below = [inner for command in commands().values() for inner in getattr(command, "commands", {}).values()]
    lines = [line.strip() for command in (*commands().values(), *below) for line in (command.help or "").splitlines()]
    return [line for line in lines if line.startswith("tcs-edge ")]


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_has_an_example(command):
    assert len([line for line in examples() if line.startswith(f"tcs-edge {command}")]) >= 1


def test_bench_names_its_default_target():
    target = next(parameter for parameter in commands()["bench"].params if parameter.name == "target")
    assert "Required" not in target.help
    assert "Default: x86-avx2" in target.help


@pytest.mark.parametrize("line", examples())
def test_every_example_parses(line):
    words = shlex.split(line.split(" > ")[0])
    command = commands()[words[1]]
    with command.make_context(words[1], words[2:]) as context:
        assert context.params


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_named_in_docs_exist(page):
    below = [inner for command in commands().values() for inner in getattr(command, "commands", {}).values()]
    everything = (*commands().values(), *below, typer.main.get_command(app))
    known = {option for command in everything for parameter in command.params for option in parameter.opts}
    known |= {
        option for script in DEVICE_FILES.glob("*.py") for option in re.findall(r'"(--[a-z-]+)"', script.read_text())
    }
    named = set(re.findall(r"(?:`| )(--[a-z][a-z0-9-]+)", _own_words(page.read_text(encoding="utf-8"))))
    assert named - known - OF_OTHERS == set()


def _own_words(text: str) -> str:
    """Return the text without commands of other programs; a command may have several lines."""
    return "\n".join(
        line
        for line in text.replace("\\\n", " ").splitlines()
        if not re.search(r"python3? |pip |pytest|docker (?:run|build|buildx) |curl |^torchrun |^accelerate ", line)
    )


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in commands() if f"| `{name}" not in text] == []


def test_every_file_of_a_finished_run_is_in_the_readme(finished):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text.replace("openvino/model.{xml,bin}", "openvino/model.xml export/openvino/model.bin")
    text = text.replace("checkpoints/{deployed,int8}", "checkpoints/deployed.safetensors checkpoints/int8")
    files = [path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()]
    assert [name for name in files if name not in text and name != "tcs-edge-run.json"] == []
