"""Write docs/reference/cli.md from the commands themselves: python tools/make_cli_reference.py"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from tcs_edge.cli.app import app
from tcs_edge.utils.files import write_text

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
INTRODUCTION = """# Commands

Made by `python tools/make_cli_reference.py` from the program itself; `tcs-edge COMMAND --help` shows the same.

Every command ends with 0 when all is well, 1 when a promise was missed, 2 for wrong usage, 3 for images that cannot be
used, 4 when something is missing, 70 for a bug of ours, 130 after Ctrl-C:
[troubleshooting.md](../how-to/troubleshooting.md).

`tcs-edge --install-completion` lets bash, zsh, fish and PowerShell complete commands, options, and the names of
targets, teachers, students and methods."""


def reference() -> str:
    """The whole page as Markdown."""
    commands = dict(_commands(typer.main.get_command(app)))
    links = ", ".join(f"[{name}](#{name.replace(' ', '-')})" for name in commands)
    return "\n\n".join([INTRODUCTION, links, *(_section(name, commands[name]) for name in commands)]) + "\n"


def _commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below a group by its full name, groups before what is in them."""
    for name, command in group.commands.items():
        yield above + name, command
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above}{name} ")


def _section(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=f"tcs-edge {name}")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {name}", f"`{usage}`", *_paragraphs(command.help)]
    for kind in ("argument", "option"):
        records = [one.get_help_record(context) for one in command.params if one.param_type_name == kind]
        if records:
            parts.append(_table(kind, records))
    return "\n\n".join(parts)


def _paragraphs(text: str) -> list[str]:
    """Prose as it is, examples as a block of code."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return [_block(one) if one.startswith("\b") else " ".join(one.split()) for one in paragraphs]


def _block(paragraph: str) -> str:
    lines = [line.strip() for line in paragraph.removeprefix("\b").strip().splitlines()]
    return "\n".join(["```", *lines[1:], "```"])


def _table(kind: str, records: Iterable[tuple[str, str]]) -> str:
    rows = (f"| `{name.strip()}` | {text.replace('|', chr(92) + '|')} |" for name, text in records)
    return "\n".join([f"| {kind} | |", "|---|---|", *rows])


if __name__ == "__main__":
    write_text(PAGE, reference())
