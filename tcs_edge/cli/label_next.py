"""`tcs-edge label-next`: rank unlabeled images by the use of their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.cli.options import OF_IMAGES, given, with_flags_of
from tcs_edge.report.text import one_line
from tcs_edge.specs.config import LabelNextConfig


@guarded
@with_flags_of(LabelNextConfig, OF_IMAGES)
def command(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Images to label.")] = 50,
    run: Annotated[
        Path | None, typer.Option(help="A finished run of these classes; its answers count as the probe's do.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write a CSV file with path, reason, score and guess.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings on stderr.")] = False,
    **options: Any,
) -> None:
    """Rank unlabeled images: which to label next.

    With few labels, the most typical image of each group without a label comes first. With more, the images that a
    probe on the teacher's features is least sure about. Without --data, no image has a label yet. The same seed gives
    the same list.

    \b
    Examples:
      tcs-edge label-next --unlabeled unsorted/ -n 50
      tcs-edge label-next --data photos/ --unlabeled unsorted/ -n 50
      tcs-edge label-next --data photos/ --unlabeled unsorted/ --run runs/pets --out next.csv
    """
    from tcs_edge.cli.output import print_json
    from tcs_edge.specs.strict import validated
    from tcs_edge.utils.files import write_text

    asked = validated(LabelNextConfig, given(options), Path("options"))
    from tcs_edge.commands.label_next import rank_images
    from tcs_edge.training.accelerator import make_accelerator
    from tcs_edge.utils.threads import free_cores, use_threads

    use_threads(asked.threads or free_cores())
    found = rank_images(asked, count, run, make_accelerator(asked.device).device)
    if out:
        write_text(out, found.to_csv())
    if json:
        print_json(found.to_json())
        return
    for number, one in enumerate(found.images, 1):
        typer.echo(one_line(f"{number:>3}  {one.path}  {one.reason}"))
    if out:
        typer.echo(one_line(f"list: {out}"), err=True)
