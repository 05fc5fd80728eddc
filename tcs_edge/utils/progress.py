"""Progress of long work, drawn on the current display; without a display nothing is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol, TypeVar

Item = TypeVar("Item")

BAR_TEXT = "bar_text"  # attribute of a log record


class Display(Protocol):
    """Display of progress; `report.console` has the one for terminals."""

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        """Pass `items` through and draw a bar."""

    def busy(self, description: str) -> AbstractContextManager[object]:
        """Draw a spinner for work of unknown length."""


def for_bar(text: str) -> dict[str, str]:
    """Return the `extra` of a log record, with a `text` for the progress bar that replaces the line if one is drawn."""
    return {BAR_TEXT: text}


_display: ContextVar[Display | None] = ContextVar("display", default=None)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Pass `items` through while the current display shows the number done.

    Args:
        total: number of items if `items` has no length.
    """
    display = _display.get()
    yield from items if display is None else display.track(items, description, total)


def busy(description: str) -> AbstractContextManager[object]:
    """Show a spinner on the current display during work of unknown length."""
    display = _display.get()
    return nullcontext() if display is None else display.busy(description)


@contextmanager
def hidden() -> Iterator[None]:
    """Draw no progress of the block."""
    token = _display.set(None)
    try:
        yield
    finally:
        _display.reset(token)


@contextmanager
def shown_on(display: Display) -> Iterator[None]:
    """Draw the progress of the block on `display`."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)
