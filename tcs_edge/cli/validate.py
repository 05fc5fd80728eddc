"""`tcs-edge validate`: validate a finished run again, or any ONNX file against its reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.report.text import one_line

if TYPE_CHECKING:
    from tcs_edge.validation.validate import Validation


@guarded
def command(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run folder.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="Any ONNX classifier, in place of a run.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Model that --onnx must equal: an .onnx file, a run, or its deployed.safetensors."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Image folder; for a run, the current folder of its images.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="With --onnx: names of folders or files to leave out of the images; repeatable."),
    ] = None,
    preprocess: Annotated[Path | None, typer.Option(help="preprocess.json, for an ONNX file without its own.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Validate a run's exports against its trained model.

    The hashes are checked first, then all test images are compared. Exit 1 if an export differs. Exports that
    fail are renamed to export.REJECTED/.

    \b
    Examples:
      tcs-edge validate runs/pets
      tcs-edge validate runs/pets --data /mnt/photos --json
      tcs-edge validate --onnx model.onnx --reference original.onnx --data photos/
    """
    from tcs_edge.errors import UsageError

    if run is not None:
        if onnx or reference or preprocess or exclude:
            raise UsageError("a run has its own model. Leave --onnx, --reference, --preprocess and --exclude out.")
        passed = _validate_run(run, data, json)
    elif onnx and reference and data:
        for path in (onnx, reference, data, *filter(None, [preprocess])):
            _require_path(path)
        from tcs_edge.commands.compare import crosscheck

        validation = crosscheck(onnx, reference, data, preprocess, exclude=exclude or ())
        _print(validation, json)
        passed = validation.verdict == "pass"
    else:
        raise UsageError("nothing to validate. Pass RUN, or --onnx FILE --reference FILE --data DIR together.")
    if not passed:
        raise typer.Exit(1)


def _validate_run(run: Path, data: Path | None, as_json: bool) -> bool:
    from tcs_edge.runs.folder import find_run

    find_run(run)
    from tcs_edge.stages.validate import revalidate

    outcome = revalidate(run, data)
    _print(outcome.validation, as_json)
    if outcome.revoked:
        typer.echo(one_line(f"the exports are now in {outcome.revoked}"), err=True)
    return outcome.revoked is None


def _require_path(path: Path) -> None:
    from tcs_edge.errors import DataError

    if not path.exists():
        raise DataError(f"no such file: {path}. Check the path.")


def _print(validation: Validation, as_json: bool) -> None:
    if as_json:
        from tcs_edge.cli.output import print_json

        print_json(validation.to_json())
    else:
        from tcs_edge.report.summary import print_validation

        print_validation(validation)
