"""`tcs-edge predict`: classify images with a run's exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.report.text import one_line


@guarded
def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Images to classify.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to show per image.")] = 1,
    precision: Annotated[str, typer.Option(help="Precision of the model: fp32, fp16 or int8.")] = "fp32",
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Classify images with the ONNX file of a run.

    The run must have passed validation, and the files of the model must be unchanged since. "unknown" marks an image
    that likely shows none of the classes.

    \b
    Examples:
      tcs-edge predict runs/pets cat.jpg
      tcs-edge predict runs/pets photos/test/cat/*.jpg --top 3 --json
    """
    from tcs_edge.cli.output import known, print_json
    from tcs_edge.specs.artifacts import PRECISIONS

    (chosen,) = known([precision], "--precision", PRECISIONS)
    from tcs_edge.runs.classifier import predict

    answers = predict(run, images, top, chosen)
    if json:
        print_json({"schema_version": 1, "predictions": [answer.to_json() for answer in answers]})
        return
    for answer in answers:
        guesses = ", ".join(f"{guess.label} {guess.probability:.1%}" for guess in answer.guesses)
        typer.echo(one_line(f"{answer.image}: {'unknown, nearest ' if answer.unknown else ''}{guesses}"))
