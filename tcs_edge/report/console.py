"""Output in the terminal: progress and messages on stderr, results on stdout."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tcs_edge.report.text import one_line, visible
from tcs_edge.utils.logs import logged_to
from tcs_edge.utils.progress import BAR_TEXT, Item, shown_on

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Wider than any line, so that a pipe gets one row per line.
PIPED_WIDTH = 10_000
# Leaves room for "epoch 10/100 loss 0.412 val 93.8 % 812 img/s data" on a line of 80 columns.
BAR_WIDTH = 6


class Terminal(logging.Handler):
    """Write log records to stderr and draw progress there.

    Args:
        verbosity: -1 shows warnings only, 0 messages too, 1 details too.

    Bars appear only on a terminal and not under CI; rich itself respects NO_COLOR. A record with `BAR_TEXT` changes
    the text of the current bar; without a bar it is a line like any other.
    """

    STYLES: ClassVar[dict[int, str]] = {logging.WARNING: "yellow", logging.DEBUG: "dim"}

    def __init__(self, verbosity: int = 0) -> None:
        super().__init__({-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG))
        self.console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.bars = self.console.is_terminal and not os.environ.get("CI") and verbosity >= 0
        self.drawn: list[tuple[Progress, TaskID]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if self.drawn and (shown := getattr(record, BAR_TEXT, None)):
            bars, task = self.drawn[-1]
            bars.update(task, description=one_line(shown))
            return
        text = one_line(record.getMessage())
        text = f"warning: {text}" if record.levelno >= logging.WARNING else text
        self.console.print(text, markup=False, style=self.STYLES.get(record.levelno, ""))

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        if not self.bars:
            yield from items
            return
        # Imported here, because commands without a bar, such as gate, need not wait for it.
        from rich import progress

        text = progress.TextColumn("{task.description}", markup=False)
        columns = (progress.SpinnerColumn(), text, progress.BarColumn(BAR_WIDTH))
        more = (progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
        with progress.Progress(*columns, *more, console=self.console, transient=True) as bars:
            task = bars.add_task(one_line(description), total=total)
            self.drawn.append((bars, task))
            try:
                yield from bars.track(items, total=total, task_id=task)
            finally:
                self.drawn.remove((bars, task))

    def busy(self, description: str) -> AbstractContextManager[object]:
        return self.console.status(Text(one_line(description))) if self.bars else nullcontext()


@contextmanager
def terminal(verbosity: int = 0) -> Iterator[Terminal]:
    """Show the messages and progress of the block on stderr; see `Terminal`."""
    shown = Terminal(verbosity)
    with logged_to(shown), shown_on(shown):
        yield shown


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print an aligned table on stdout; columns whose heading ends in a unit are right-aligned."""
    table = Table(
        title=None if title is None else visible(title),
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for heading in headings:
        table.add_column(heading, justify="right" if _is_number(heading) else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(visible, row))
    stdout_console().print(table)


class Screen(Console):
    """Console that escapes control characters in texts."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(visible(shown) if isinstance(shown, str) else shown for shown in objects), **options)


def stdout_console() -> Screen:
    """A console on stdout that never breaks lines when the output is piped."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Screen(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def _is_number(heading: str) -> bool:
    return heading.rsplit(" ", 1)[-1] in {"ms", "MB", "M", "%", "px", "s", "diff"}
