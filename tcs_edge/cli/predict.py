"""`tcs-edge predict`: classify images with a run's exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.errors import DataError


@guarded
def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Images, and folders of images.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to show per image.")] = 1,
    precision: Annotated[str, typer.Option(help="Precision of the model: fp32, fp16 or int8.")] = "fp32",
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Classify images with the ONNX file of a run.

    The run must have passed validation, and the files of the model must be unchanged since. "unknown" marks an image
    that likely shows none of the classes.

    Folders are searched with their subfolders. An image that cannot be read is named on stderr, the others are
    classified, and the exit code is 3.

    \b
    Examples:
      tcs-edge predict runs/pets cat.jpg unsorted/
      tcs-edge predict runs/pets photos/test/cat/*.jpg --top 3 --json
    """
    from tcs_edge.cli.output import known, print_answers
    from tcs_edge.specs.artifacts import PRECISIONS

    (chosen,) = known([precision], "--precision", PRECISIONS)
    from tcs_edge.runs.classifier import Answer, predict_each

    def line(found: Answer) -> str:
        guesses = ", ".join(f"{guess.label} {guess.probability:.1%}" for guess in found.guesses)
        return f"{found.image}: {'unknown, nearest ' if found.unknown else ''}{guesses}"

    answered, unread = print_answers(predict_each(run, images, top, chosen), "predictions", line, json)
    if unread and answered:
        raise DataError(f"{unread} of {answered + unread} images were not classified. Replace or remove them.")
    if unread:
        raise typer.Exit(DataError.exit_code)
