"""`tcs-edge compare`: compare an ONNX file with another model on a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded


@guarded
def command(
    model: Annotated[
        Path,
        typer.Argument(metavar="A", help="Classifier to check: .onnx, an ncnn .param with its .bin, or a .tflite."),
    ],
    reference: Annotated[
        Path,
        typer.Argument(metavar="B", help="Model that A must equal: an .onnx file, a run, or its deployed.safetensors."),
    ],
    data: Annotated[Path, typer.Option(help="Image folder: its test images, or all images without splits.")],
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Names of folders or files to leave out of the images, or @FILE of image names; repeatable."),
    ] = None,
    preprocess: Annotated[Path | None, typer.Option(help="preprocess.json, for an A without its own.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Compare a model file with another model on images.

    Every runtime that reads A runs it. Exit 1 if A differs from B. Without class names in the files, the sorted
    class folders give the order of the outputs.

    \b
    Examples:
      tcs-edge compare small.onnx original.onnx --data photos/
      tcs-edge compare model.onnx runs/pets --data photos/ --json
      tcs-edge compare model.param original.onnx --data photos/
    """
    from tcs_edge.errors import DataError

    for path in (model, reference, data, *filter(None, [preprocess])):
        if not path.exists():
            raise DataError(f"no such file: {path}. Check the path.")
    from tcs_edge.cli.output import print_validation_as
    from tcs_edge.commands.compare import compare_files

    validation = compare_files(model, reference, data, preprocess, exclude=exclude or ())
    print_validation_as(validation, json)
    if validation.verdict != "pass":
        raise typer.Exit(1)
