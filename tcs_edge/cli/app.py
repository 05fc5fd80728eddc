"""All commands of `tcs-edge` in one application."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tcs_edge.cli import (
    bench,
    bundle,
    bundle_profiler,
    cache,
    candidates,
    check,
    compare,
    compress,
    doctor,
    gate,
    init,
    label_next,
    measure,
    predict,
    profile,
    report,
    selftest,
    targets,
    validate,
)
from tcs_edge.cli.options import PanelCommand
from tcs_edge.report.console import accept_all_characters
from tcs_edge.utils.launcher import launched
from tcs_edge.utils.version import __version__

# Flags of earlier versions: each gets an error with the new one.
OLD_FLAGS = {
    "--controls": "--ablations",
    "--labelled-share": "--labeled-fraction",
    "--max-drop": "--max-accuracy-drop",
    "--max-file-mb": "--max-size-mb",
    "--teacher-in-loop": "--online-teacher",
}


class Commands(TyperGroup):
    """The group of all commands; an old flag of any command is an error with its new name.

    So is a command other than compress in one of several processes.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as click does, after a look for old flags."""
        for flag in (arg.partition("=")[0] for arg in args):
            if flag in OLD_FLAGS:
                ctx.fail(f"No such option: {flag}. Its new name is {OLD_FLAGS[flag]}.")
        rest = super().parse_args(ctx, args)
        name = next((arg for arg in args if not arg.startswith("-")), "")
        if name in self.commands and name != "compress" and not launched().alone:
            ctx.fail(f"tcs-edge {name} runs in one process. Start it without torchrun or accelerate launch.")
        return rest


app = typer.Typer(
    name="tcs-edge",
    cls=Commands,
    help="Distill a small image classifier from a self-supervised teacher, export it, and validate the export.",
    context_settings={"help_option_names": ["--help", "-h"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("init", short_help="Write a commented tcs-edge.toml for this folder.")(init.command)
app.command("compress", cls=PanelCommand)(compress.command)
app.command("check", cls=PanelCommand)(check.command)
app.command("targets")(targets.command)
app.command("candidates")(candidates.command)
app.command("validate")(validate.command)
app.command("compare")(compare.command)
app.command("label-next", cls=PanelCommand, short_help="Rank unlabeled images: which to label next.")(
    label_next.command
)
app.command("bundle")(bundle.command)
app.command("selftest")(selftest.command)
app.command("predict")(predict.command)
app.command("cache")(cache.command)
app.command("doctor")(doctor.command)
app.command("bench", cls=PanelCommand, short_help="Compare training methods on the same images.")(bench.command)
app.command("gate", cls=PanelCommand)(gate.command)
app.command("report")(report.command)
app.add_typer(profile.app, name="profile")
app.command("bundle-profiler")(bundle_profiler.command)
app.command("measure")(measure.command)


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
    """Distill a small image classifier from a self-supervised teacher, export it, and validate the export."""


def main() -> None:
    """Entry point of the console script."""
    # Libraries read these at import: no telemetry, and no progress bars in a log file.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    accept_all_characters()
    app()
