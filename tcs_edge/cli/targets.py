"""`tcs-edge targets`: all known devices, or one of them in full."""

from __future__ import annotations

from typing import Annotated

import typer

from tcs_edge.cli.completion import target_names
from tcs_edge.cli.guard import guarded
from tcs_edge.cli.output import echo


@guarded
def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A target's name, or a .toml file.", autocompletion=target_names),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List the known devices, or show one with its sources.

    \b
    Examples:
      tcs-edge targets
      tcs-edge targets raspberrypi4 > mine.toml
    """
    from tcs_edge.cli.output import print_json
    from tcs_edge.specs.target import list_targets, load_target

    found = [load_target(target) for target in ([name] if name else list_targets())]
    documents = [target.model_dump(mode="json", exclude_none=True) for target in found]
    if json:
        print_json(documents[0] if name else {"schema_version": 1, "targets": documents})
    elif name:
        import tomli_w

        echo(tomli_w.dumps(documents[0]).rstrip())
    else:
        from tcs_edge.report.console import print_table

        rows = [(target.name, target.title, str(target.cpu.cores), str(target.memory_mb)) for target in found]
        print_table(("name", "device", "cores", "memory MB"), rows)
