"""`tcs-edge predict`: classify pictures with a run's exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.errors import one_line_errors


@one_line_errors
def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures to classify.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to show per picture.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Classify pictures with the ONNX file of a run that passed its validation.

    \b
    Examples:
      tcs-edge predict runs/pets cat.jpg
      tcs-edge predict runs/pets photos/test/cat/*.jpg --top 3 --json
    """
    from tcs_edge.cli.output import print_json
    from tcs_edge.prediction import predict

    answers = predict(run, images, top)
    if json:
        print_json({"schema_version": 1, "predictions": [answer.to_json() for answer in answers]})
        return
    for answer in answers:
        guesses = ", ".join(f"{guess.label} {guess.probability:.1%}" for guess in answer.guesses)
        typer.echo(f"{answer.image}: {guesses}")
