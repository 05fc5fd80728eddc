"""`tcs-edge similar`: the images of an index that are like others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.errors import DataError
from tcs_edge.report.text import one_line


@guarded
def command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Images, and folders of images.")],
    run: Annotated[Path, typer.Option(help="The run whose model made the index.")],
    index: Annotated[Path, typer.Option(help="File of `tcs-edge index` or of the bundle's similar.py.")],
    top: Annotated[int, typer.Option(min=1, help="Like images to show per image.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Find the images of an index that are like others.

    The score is the cosine of two embeddings, in -1..1. An index of another model is refused. An image that cannot be
    read is named on stderr, the others are answered, and the exit code is 3.

    \b
    Examples:
      tcs-edge similar --run runs/pets --index photos.npz cat.jpg --top 3
    """
    from tcs_edge.bundle.image_index import similar_images
    from tcs_edge.cli.output import print_json
    from tcs_edge.runs.classifier import Unread

    answers, unread = [], []
    for found in similar_images(run, index, images, top):
        if isinstance(found, Unread):
            unread.append(found)
            typer.echo(one_line(f"error: {found.reason}"), err=True)
            continue
        answers.append(found)
        if not json:
            like = ", ".join(f"{one.image} {one.score:.3f}" for one in found.similar)
            typer.echo(one_line(f"{found.image}: {like}"))
    if json:
        similar, failed = ([one.to_json() for one in kept] for kept in (answers, unread))
        print_json({"schema_version": 1, "similar": similar, "failed": failed})
    if unread:
        raise DataError(f"{len(unread)} of {len(answers) + len(unread)} images were not read. Replace or remove them.")
