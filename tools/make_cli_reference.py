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

`python tools/make_cli_reference.py` generates this page from the commands. `tcs-edge COMMAND --help` (or `-h`) prints
the same text. `python -m tcs_edge` is the same program.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | a requirement was missed, such as parity, a limit or an accuracy |
| 2 | wrong usage |
| 3 | unusable images or files |
| 4 | something is missing, such as weights, an extra or disk space |
| 70 | a bug in tcs-edge |
| 130, 143, 129 | stopped by Ctrl-C, SIGTERM or SIGHUP |

[Troubleshooting](../how-to/troubleshooting.md) lists the messages.

Run `tcs-edge --install-completion` to complete commands, options, targets, teachers, students and methods in bash,
zsh, fish and PowerShell."""


def reference() -> str:
    """Return the whole page as Markdown."""
    commands = dict(_commands(typer.main.get_command(app)))
    links = ", ".join(f"[{name}](#{name.replace(' ', '-')})" for name in commands)
    return "\n\n".join([INTRODUCTION, links, *(_section(name, commands[name]) for name in commands)]) + "\n"


def _commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below a group with its full name; a group comes before its own commands."""
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
    """Paragraphs of a help text; examples become a block of code."""
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
