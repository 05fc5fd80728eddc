"""`tcs-edge pull`: a run from the Hugging Face hub, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.report.text import one_line


@guarded
def command(
    address: Annotated[
        str, typer.Argument(metavar="hf://USER/NAME[@REVISION]", help="The repository, at a branch, tag or commit.")
    ],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Download a run from the Hugging Face hub, and verify it.

    The folder appears once every file has the hash of the run's manifest. A repository with other files is refused.
    Nothing in it is executed. The hashes show damage and changes, not who wrote the run.

    \b
    Examples:
      tcs-edge pull hf://USER/pets pets
      tcs-edge pull hf://USER/pets@v1.0 pets
    """
    from tcs_edge.hub.address import parse_address
    from tcs_edge.hub.pull import pull_run

    made = pull_run(parse_address(address), out)
    if json:
        from tcs_edge.cli.output import print_json

        print_json(made.to_json())
        return
    with_bundle = ", with a bundle in bundle/" if made.bundle else ""
    facts = f"{made.files} files, {made.bytes / 1e6:.1f} MB, all hashes verified{with_bundle}"
    typer.echo(one_line(f"pulled: {made.folder} ({facts})"))
    typer.echo(f"commit: {made.commit}")
    typer.echo(f"manifest.json sha256: {made.manifest_sha256}")
