"""`tcs-edge report`: an HTML page of one run, or a comparison of several."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.report.text import one_line

if TYPE_CHECKING:
    from tcs_edge.runs.place import RunOwner

COMPARISON = Path("comparison.html")


@guarded
def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="A run folder; several are compared.")],
    out: Annotated[
        Path | None, typer.Option(help="Output file; default RUN/reports/report.html, or comparison.html for several.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Current folder of the run's images, for thumbnails.")] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Add a drop zone that classifies images in the page.")
    ] = False,
    onnxruntime_web: Annotated[
        Path | None, typer.Option(help="The npm package for --interactive; default node_modules/onnxruntime-web.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Write one HTML page of a run, or compare several runs.

    The page needs no network.

    \b
    Examples:
      tcs-edge report runs/pets --open
      tcs-edge report runs/pets-small runs/pets-large --out comparison.html
      tcs-edge report runs/pets --interactive --onnxruntime-web node_modules/onnxruntime-web
    """
    from tcs_edge.runs.place import RunOwner
    from tcs_edge.utils.files import write_text

    with RunOwner() as owner:
        place, page = (
            _one(runs[0], out, data, interactive, onnxruntime_web, owner)
            if len(runs) == 1
            else _several(runs, out, data, interactive)
        )
        write_text(place, page)
    if json:
        from tcs_edge.cli.output import print_json

        print_json({"schema_version": 1, "report": str(place), "bytes": place.stat().st_size})
    else:
        typer.echo(one_line(f"report: {place} ({place.stat().st_size / 1e6:.2f} MB)"))
    if show and not webbrowser.open(place.resolve().as_uri()):
        typer.echo(one_line(f"no browser found. Open {place}."), err=True)


def _one(
    run: Path, out: Path | None, data: Path | None, interactive: bool, onnxruntime_web: Path | None, owner: RunOwner
) -> tuple[Path, str]:
    from tcs_edge.report.page.interactive import interactive_parts
    from tcs_edge.report.page.run import run_page
    from tcs_edge.runs.folder import RunFolder, find_run

    _require_folder(data)
    if out is None or out.resolve().is_relative_to(run.resolve()):
        owner.own(find_run(run).root)  # the page is written into the run; elsewhere the run is only read
    parts = interactive_parts(run, onnxruntime_web) if interactive else None
    return out or RunFolder(run).report, run_page(run, data, parts)


def _several(runs: list[Path], out: Path | None, data: Path | None, interactive: bool) -> tuple[Path, str]:
    from tcs_edge.errors import UsageError
    from tcs_edge.report.page.comparison import comparison_page

    if interactive or data:
        raise UsageError("--interactive and --data are for one run: pass a single run folder.")
    return out or COMPARISON, comparison_page(runs)


def _require_folder(data: Path | None) -> None:
    from tcs_edge.errors import DataError

    if data is not None and not data.is_dir():
        raise DataError(f"no such image folder: {data}. Pass the folder with the run's images, or leave --data out.")
