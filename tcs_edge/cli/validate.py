"""`tcs-edge validate`: validate a finished run again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.report.text import one_line


@guarded
def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    data: Annotated[Path | None, typer.Option(help="Current folder of the run's images.")] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Rename exports that fail to export.REJECTED/.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Validate a run's exports against its trained model.

    The hashes are checked first, then all test images are compared. Exit 1 if an export differs. Only --revoke
    changes files.

    \b
    Examples:
      tcs-edge validate runs/pets
      tcs-edge validate runs/pets --data /mnt/photos --json
      tcs-edge validate runs/pets --revoke
    """
    from tcs_edge.cli.output import print_validation_as
    from tcs_edge.runs.folder import find_run

    find_run(run)
    from tcs_edge.stages.validate import revalidate

    outcome = revalidate(run, data, revoke)
    print_validation_as(outcome.validation, json)
    if outcome.validation.verdict == "pass":
        return
    if outcome.revoked:
        advice = f"the exports are now in {outcome.revoked}"
    else:
        place = shlex.quote(str(run))
        advice = f"no file was changed. To revoke the exports: tcs-edge validate {place} --revoke"
    typer.echo(one_line(advice), err=True)
    raise typer.Exit(1)
