"""All commands of `tcs-edge` in one application."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tcs_edge.report.text import accept_all_characters
from tcs_edge.utils.launcher import launched
from tcs_edge.utils.version import __version__


@dataclass(frozen=True)
class Entry:
    """A command before its module is imported.

    Attributes:
        summary: its line in the list of commands.
        panels: show its options in panels.
    """

    summary: str
    panels: bool = False


# The module of a command is tcs_edge.cli.NAME, with underscores for dashes.
ENTRIES = {
    "init": Entry("Write a commented tcs-edge.toml for this folder."),
    "compress": Entry("Distill, export and validate a classifier for a device.", panels=True),
    "check": Entry("Find copies, doubtful labels, outliers and bad images.", panels=True),
    "targets": Entry("List the known devices, or show one with its sources."),
    "candidates": Entry("List students with accuracy, latency and size."),
    "validate": Entry("Validate a run's exports against its trained model."),
    "compare": Entry("Compare a model file with another model on images."),
    "label-next": Entry("Rank unlabeled images: which to label next.", panels=True),
    "bundle": Entry("Write a folder with all that the device needs."),
    "push": Entry("Publish a run on the Hugging Face hub, in one commit."),
    "pull": Entry("Download a run from the Hugging Face hub, and verify it."),
    "selftest": Entry("Put faults into good exports and count those detected."),
    "predict": Entry("Classify images with the ONNX file of a run."),
    "index": Entry("Write the embeddings of a folder of images into one file."),
    "similar": Entry("Find the images of an index that are like others."),
    "cache": Entry("Show what is cached between commands, or clear it."),
    "doctor": Entry("Show versions, runtimes, cores and cached teachers."),
    "bench": Entry("Compare training methods on the same images.", panels=True),
    "gate": Entry("Check a model against its limits.", panels=True),
    "report": Entry("Write one HTML page of a run, or compare several runs."),
    "bundle-profiler": Entry("Write a folder that measures latency on a device."),
    "measure": Entry("Measure students on a board over ssh."),
    "profile": Entry("Measure the latency of students on this machine."),
}

# Flags of earlier versions: each gets an error with the new one.
OLD_FLAGS = {
    "--controls": "--ablations",
    "--labelled-share": "--labeled-fraction",
    "--max-drop": "--max-accuracy-drop",
    "--max-file-mb": "--max-size-mb",
    "--teacher-in-loop": "--online-teacher",
}


class LazyCommands(MutableMapping[str, Any]):
    """The commands of `ENTRIES` by name; a command is imported when it is looked up."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _made(name, ENTRIES[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*ENTRIES, *self._made)))

    def __len__(self) -> int:
        return len({*ENTRIES, *self._made})

    def __contains__(self, name: object) -> bool:
        return name in ENTRIES or name in self._made


def _made(name: str, entry: Entry) -> Any:
    """Import a command and return it as typer makes it for a group."""
    module = import_module(f"tcs_edge.cli.{name.replace('-', '_')}")
    group = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    group.callback()(lambda: None)
    if hasattr(module, "app"):
        group.add_typer(module.app, name=name, short_help=entry.summary)
    elif entry.panels:
        from tcs_edge.cli.options import PanelCommand

        group.command(name, cls=PanelCommand, short_help=entry.summary)(module.command)
    else:
        group.command(name, short_help=entry.summary)(module.command)
    made: Any = typer.main.get_command(group)
    return made.commands[name]


class Commands(TyperGroup):
    """The group of all commands; an old flag of any command is an error with its new name.

    So is a command other than compress in one of several processes.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": LazyCommands()})

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in ENTRIES.items()])

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
    warnings.filterwarnings("ignore", module=r"PIL\.", append=True)  # an image is read, or refused in one line
    app()
