"""`tcs-edge validate`: prove a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.errors import one_line_errors


@one_line_errors
def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[Path | None, typer.Option(help="Where the run's images lie now.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Check every file's hash, then compare the exports with the trained model on the test images.

    Exit 1 and the exports renamed to export.REJECTED/ if they do not equal it any more.

    \b
    Examples:
      tcs-edge validate runs/pets
      tcs-edge validate runs/pets --data /mnt/photos --json
    """
    from tcs_edge.cli.output import print_json
    from tcs_edge.proof import revalidate
    from tcs_edge.report.console import ConsoleReporter
    from tcs_edge.report.summary import print_validation

    outcome = revalidate(run, data, ConsoleReporter(verbosity=-1 if quiet else 0))
    if json:
        print_json(outcome.validation.to_json())
    else:
        print_validation(outcome.validation)
    if outcome.revoked:
        typer.echo(f"the exports are now in {outcome.revoked}", err=True)
        raise typer.Exit(1)
