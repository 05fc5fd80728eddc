"""`tcs-edge bundle`: a deployment folder for one device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.report.text import one_line


@guarded
def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder whose exports passed validation.")],
    out: Annotated[Path | None, typer.Option(help="Output folder; default RUN-bundle.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="onnxruntime, openvino, ncnn or litert; default: the one of the selection.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Precision of the model: fp32, fp16 or int8. Default: the target's if the run has it."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Current folder of the run's images.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier bundle.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Write a folder with all that the device needs.

    It holds the model, programs without torch (files, folders, cameras, an HTTP service), golden outputs, pinned
    packages, hashes and licenses. A run that failed validation, or whose files changed, is refused.

    \b
    Examples:
      tcs-edge bundle runs/pets --out pets-pi5
      tcs-edge bundle runs/pets --runtime openvino --overwrite
      tcs-edge bundle runs/pets --runtime ncnn --precision fp16
    """
    from tcs_edge.cli.output import known
    from tcs_edge.runs.folder import find_run
    from tcs_edge.specs.artifacts import PRECISIONS
    from tcs_edge.specs.target import BundledRuntime

    known([runtime] if runtime else [], "--runtime", get_args(BundledRuntime))
    known([precision] if precision else [], "--precision", PRECISIONS)
    find_run(run)
    from tcs_edge.bundle.make import make_bundle

    bundle = make_bundle(run, out, runtime, precision, data, overwrite)
    if json:
        from tcs_edge.cli.output import print_json

        print_json(bundle.to_json())
        return
    facts = f"{len(bundle.files)} files, {bundle.size_mb:.1f} MB, for {bundle.runtime}"
    typer.echo(one_line(f"bundle: {bundle.folder} ({facts})"))
    typer.echo("on the device: python3 -I install.py")
