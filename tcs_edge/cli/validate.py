"""`tcs-edge validate`: prove a finished run again, or any ONNX file against its origin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcs_edge.cli.guard import guarded

if TYPE_CHECKING:
    from tcs_edge.validation.validate import Validation


@guarded
def command(
    run: Annotated[Path | None, typer.Argument(help="A run folder.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="Instead of a run: any ONNX classifier.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="What --onnx must equal: an .onnx file, a run, or its deployed.safetensors.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Image folder; of a run, where its images lie now.")] = None,
    preprocess: Annotated[
        Path | None, typer.Option(help="preprocess.json for an ONNX file that does not carry its own.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Check a run's hashes, then compare its exports with the trained model on the test images.

    Exit 1 if they do not equal it any more; the exports are then renamed to export.REJECTED/.

    \b
    Examples:
      tcs-edge validate runs/pets
      tcs-edge validate runs/pets --data /mnt/photos --json
      tcs-edge validate --onnx model.onnx --reference original.onnx --data photos/
    """
    from tcs_edge.errors import UsageError

    if run is not None:
        if onnx or reference or preprocess:
            raise UsageError("a run brings its own model: leave --onnx, --reference and --preprocess out.")
        passed = _validate_run(run, data, json)
    elif onnx and reference and data:
        from tcs_edge.commands.compare import crosscheck

        validation = crosscheck(onnx, reference, data, preprocess)
        _print(validation, json)
        passed = validation.verdict == "pass"
    else:
        raise UsageError("nothing to validate: pass RUN, or --onnx FILE --reference FILE --data DIR together.")
    if not passed:
        raise typer.Exit(1)


def _validate_run(run: Path, data: Path | None, as_json: bool) -> bool:
    from tcs_edge.stages.validate import revalidate

    outcome = revalidate(run, data)
    _print(outcome.validation, as_json)
    if outcome.revoked:
        typer.echo(f"the exports are now in {outcome.revoked}", err=True)
    return outcome.revoked is None


def _print(validation: Validation, as_json: bool) -> None:
    if as_json:
        from tcs_edge.cli.output import print_json

        print_json(validation.to_json())
    else:
        from tcs_edge.report.summary import print_validation

        print_validation(validation)
