"""`tcs-edge push`: a validated run on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.report.text import one_line


@guarded
def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder whose exports passed validation.")],
    address: Annotated[str, typer.Argument(metavar="hf://USER/NAME", help="The repository; it is created if missing.")],
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle of the run to publish too; default RUN-bundle if it exists.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Create a public repository; default: private.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Publish a run on the Hugging Face hub, in one commit.

    It publishes every file of the manifest as it is: the model card, the exports, the weights and the validation.
    The token comes from `hf auth login` or HF_TOKEN. Logs and records name the folder and the files of your images.

    \b
    Examples:
      tcs-edge push runs/pets hf://USER/pets
      tcs-edge push runs/pets hf://USER/pets --bundle pets-pi5 --public
    """
    from tcs_edge.hub.address import parse_address
    from tcs_edge.hub.push import push_run

    made = push_run(run, parse_address(address), bundle, public)
    if json:
        from tcs_edge.cli.output import print_json

        print_json(made.to_json())
        return
    with_bundle = ", with a bundle" if made.bundle else ""
    typer.echo(one_line(f"published: {made.url} ({made.files} files, {made.bytes / 1e6:.1f} MB{with_bundle})"))
    typer.echo(f"commit: {made.commit}")
    typer.echo(f"manifest.json sha256: {made.manifest_sha256}")
