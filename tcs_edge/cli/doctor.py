"""`tcs-edge doctor`: versions, working runtimes, and cached teachers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tcs_edge.cli.guard import guarded

if TYPE_CHECKING:
    from tcs_edge.commands.doctor import Health


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

        print_table(("check", "state", "detail"), _rows(health))
    if not health.usable:
        raise typer.Exit(4)


def _rows(health: Health) -> list[tuple[str, str, str]]:
    """Cells of every finding; absent teachers are one row."""
    absent = [row for row in health.rows if row.state == "absent" and row.name.startswith("teacher ")]
    rows: list[tuple[str, str, str]] = [(row.name, row.state, row.detail) for row in health.rows if row not in absent]
    if absent:
        rows.append((f"{len(absent)} teachers", "absent", absent[0].detail))
    return rows
