"""`tcs-edge doctor`: versions, working runtimes, and cached teachers."""

from __future__ import annotations

from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded


@guarded
def command(
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show versions, runtimes, cores and cached teachers.

    Exit 4 if a required part is broken.

    \b
    Examples:
      tcs-edge doctor
      tcs-edge doctor --json
    """
    from tcs_edge.cli.output import print_json
    from tcs_edge.commands.doctor import examine

    health = examine()
    if json:
        print_json(health.to_json())
    else:
        from tcs_edge.report.console import print_table

        print_table(("check", "state", "detail"), [(row.name, row.state, row.detail) for row in health.rows])
    if not health.usable:
        raise typer.Exit(4)
