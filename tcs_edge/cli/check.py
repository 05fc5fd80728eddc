"""`tcs-edge check`: look for copies, doubtful labels and unusable images."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.cli.options import OF_IMAGES, given, with_flags_of
from tcs_edge.report.text import one_line
from tcs_edge.specs.config import ImagesConfig

PAGE = Path("check.html")


@guarded
@with_flags_of(ImagesConfig, (*OF_IMAGES, "allow_leaks"))
def command(
    out: Annotated[Path, typer.Option(help="Page with thumbnails.")] = PAGE,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings on stderr.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show details.")] = False,
    **options: Any,
) -> None:
    """Find copies, doubtful labels, outliers and bad images.

    Copies are found without a teacher. With --teacher, or with features in the cache, labels are checked too. Tick
    images in the page, save the list, and pass it to any command with --exclude @exclude.txt. Exit 3 if copies are in
    train and in test.

    \b
    Examples:
      tcs-edge check --data photos/ --open
      tcs-edge check --data photos/ --teacher dinov2 --unlabeled new/ --json
      tcs-edge check --data photos/ --exclude @exclude.txt
    """
    from tcs_edge.cli.output import print_json
    from tcs_edge.errors import DataError
    from tcs_edge.specs.strict import validated

    asked = validated(ImagesConfig, given(options), Path("options"))
    if asked.teacher is not None and asked.teacher_file is None:
        from tcs_edge.teachers.registry import require_teacher_name

        require_teacher_name(asked.teacher)
    from tcs_edge.check.run import check_images
    from tcs_edge.report.check import findings_json, print_findings, without_features_line
    from tcs_edge.report.page.check import check_page
    from tcs_edge.training.accelerator import make_accelerator
    from tcs_edge.utils.files import write_text
    from tcs_edge.utils.threads import free_cores, use_threads

    use_threads(asked.threads or free_cores())
    found = check_images(asked, make_accelerator(asked.device).device)
    write_text(out, check_page(found))
    if json:
        print_json(findings_json(found) | {"page": str(out)})
    else:
        print_findings(found)
        if line := without_features_line(found):
            typer.echo(one_line(line))
        typer.echo(one_line(f"page: {out} ({out.stat().st_size / 1e6:.2f} MB)"))
    if show and not webbrowser.open(out.resolve().as_uri()):
        typer.echo(one_line(f"no browser found. Open {out}."), err=True)
    if found.leaks and not asked.allow_leaks:
        raise DataError(
            f"{len(found.leaks)} copies are in train and in test. Results on test would be too optimistic. "
            f"Drop them with --exclude @FILE, whose lines {out} saves, or pass --allow-leaks."
        )
