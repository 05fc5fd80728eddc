"""`tcs-edge bundle`: one folder with everything that a device needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded


@guarded
def command(
    run: Annotated[Path, typer.Argument(help="A run folder whose exports passed.")],
    out: Annotated[Path | None, typer.Option(help="The bundle's folder; default RUN-bundle.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="onnxruntime or openvino; default what the target is set up for.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the model: fp32, or another that the run exported.")] = "fp32",
    data: Annotated[Path | None, typer.Option(help="Where the run's images lie now.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier bundle.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Make a folder for the device: model, scripts without torch, golden answers, pins, hashes, licenses.

    Refuses a run that failed its proof or whose files changed.

    \b
    Examples:
      tcs-edge bundle runs/pets --out pets-pi5
      tcs-edge bundle runs/pets --runtime openvino --overwrite
    """
    from tcs_edge.bundle.make import make_bundle

    bundle = make_bundle(run, out, runtime, precision, data, overwrite)
    if json:
        from tcs_edge.cli.output import print_json

        print_json(bundle.to_json())
        return
    typer.echo(f"bundle: {bundle.folder} ({len(bundle.files)} files, {bundle.size_mb:.1f} MB, for {bundle.runtime})")
    typer.echo("on the device: pip install -r requirements.txt && python3 selfcheck.py")
