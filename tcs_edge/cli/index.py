"""`tcs-edge index`: the embeddings of a folder of images in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.errors import DataError
from tcs_edge.report.text import one_line


@guarded
def command(
    run: Annotated[Path, typer.Option(help="A run folder, trained with --with-embedding.")],
    data: Annotated[Path, typer.Option(help="Folder of images, with its subfolders.")],
    out: Annotated[Path, typer.Option(help="The index, such as photos.npz.")],
    runtime: Annotated[
        str | None, typer.Option(help="onnxruntime or openvino; default: the one of the bundle.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Precision of the model: fp32, fp16 or int8. Default: the one of the bundle.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Write the embeddings of a folder of images into one file.

    It holds names, embeddings and the hash of the model, for `similar` and for `similar.py` of the bundle. An image
    that cannot be read is named on stderr, the others are indexed, and the exit code is 3.

    \b
    Examples:
      tcs-edge index --run runs/pets --data photos/ --out photos.npz
    """
    from tcs_edge.cli.output import known, print_json
    from tcs_edge.specs.artifacts import PRECISIONS
    from tcs_edge.specs.target import RuntimeName

    known([runtime] if runtime else [], "--runtime", get_args(RuntimeName))
    known([precision] if precision else [], "--precision", PRECISIONS)
    from tcs_edge.bundle.image_index import index_images

    made = index_images(run, data, out, runtime, precision)
    for one in made.failed:
        typer.echo(one_line(f"error: {one.reason}"), err=True)
    if json:
        print_json(made.to_json())
    else:
        typer.echo(one_line(f"index: {made.file} ({made.images} images, {made.model})"))
    if made.failed:
        total = made.images + len(made.failed)
        raise DataError(f"{len(made.failed)} of {total} images were not indexed. Replace or remove them.")
