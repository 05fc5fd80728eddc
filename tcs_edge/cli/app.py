"""The commands of `tcs-edge`, put together."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from tcs_edge.cli import (
    bench,
    bundle,
    bundle_profiler,
    candidates,
    compress,
    doctor,
    gate,
    init,
    predict,
    profile,
    report,
    selftest,
    targets,
    validate,
)
from tcs_edge.utils.version import __version__

app = typer.Typer(
    name="tcs-edge",
    help="Distill a small image classifier from a self-supervised teacher, export it, and prove the export.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("init")(init.command)
app.command("compress")(compress.command)
app.command("targets")(targets.command)
app.command("candidates")(candidates.command)
app.command("validate")(validate.command)
app.command("bundle")(bundle.command)
app.command("selftest")(selftest.command)
app.command("predict")(predict.command)
app.command("doctor")(doctor.command)
app.command("bench")(bench.command)
app.command("gate")(gate.command)
app.command("report")(report.command)
app.add_typer(profile.app, name="profile")
app.command("bundle-profiler")(bundle_profiler.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tcs-edge {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Distill a small image classifier from a self-supervised teacher, export it, and prove the export."""


def main() -> None:
    """Entry point of the console script."""
    # Libraries read these when they are imported: nothing is sent anywhere, and nothing chatters.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    app()
