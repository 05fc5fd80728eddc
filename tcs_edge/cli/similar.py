"""`tcs-edge similar`: the images of an index that are like others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.errors import DataError


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
    from tcs_edge.bundle.image_index import Similar, similar_images
    from tcs_edge.cli.output import print_answers

    def line(found: Similar) -> str:
        return f"{found.image}: " + ", ".join(f"{one.image} {one.score:.3f}" for one in found.similar)

    answered, unread = print_answers(similar_images(run, index, images, top), "similar", line, json)
    if unread:
        raise DataError(f"{unread} of {answered + unread} images were not read. Replace or remove them.")
