"""What a person sees in the terminal: progress and remarks on stderr, results on stdout."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import ClassVar

from rich.console import Console
from rich.table import Table

from tcs_edge.utils.logs import logged_to
from tcs_edge.utils.progress import Item, shown_on

# Wider than any line: whoever reads a pipe wants one row per line.
PIPED_WIDTH = 10_000


class Terminal(logging.Handler):
    """Write log records to stderr and draw progress there.

    Args:
        verbosity: -1 shows warnings only, 0 messages too, 1 details too.

    Bars appear only on a terminal and not under CI; rich itself respects NO_COLOR.
    """

    STYLES: ClassVar[dict[int, str]] = {logging.WARNING: "yellow", logging.DEBUG: "dim"}

    def __init__(self, verbosity: int = 0) -> None:
        super().__init__({-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG))
        self.console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.bars = self.console.is_terminal and not os.environ.get("CI") and verbosity >= 0

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        text = f"warning: {text}" if record.levelno >= logging.WARNING else text
        self.console.print(text, markup=False, style=self.STYLES.get(record.levelno, ""))

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        if not self.bars:
            yield from items
            return
        # Only here: commands without a bar, such as the gate, do not wait for it.
        from rich import progress

        columns = (progress.SpinnerColumn(), progress.TextColumn("{task.description}"), progress.BarColumn())
        more = (progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
        with progress.Progress(*columns, *more, console=self.console, transient=True) as bars:
            yield from bars.track(items, total=total, description=description)

    def busy(self, description: str) -> AbstractContextManager[object]:
        return self.console.status(description) if self.bars else nullcontext()


@contextmanager
def terminal(verbosity: int = 0) -> Iterator[Terminal]:
    """Show the messages and the progress of the block on stderr; see `Terminal`."""
    shown = Terminal(verbosity)
    with logged_to(shown), shown_on(shown):
        yield shown


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print an aligned table on stdout; columns whose heading ends in a unit are right-aligned."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if _is_number(heading) else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    stdout_console().print(table)


def stdout_console() -> Console:
    """A console on stdout that never breaks lines when the output is piped."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def _is_number(heading: str) -> bool:
    return heading.rsplit(" ", 1)[-1] in {"ms", "MB", "M", "%", "px", "s", "diff"}
