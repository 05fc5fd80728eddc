"""Progress of long work, shown on the display of whoever runs the program; without one, nothing is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Display(Protocol):
    """Draws progress; `report.console` has the one for terminals."""

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        """Pass `items` through and draw a bar."""

    def busy(self, description: str) -> AbstractContextManager[object]:
        """Draw a spinner for work of unknown length."""


_display: ContextVar[Display | None] = ContextVar("display", default=None)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Pass `items` through while the current display shows how many are done.

    Args:
        total: number of items where `items` has no length.
    """
    display = _display.get()
    yield from items if display is None else display.track(items, description, total)


def busy(description: str) -> AbstractContextManager[object]:
    """Show on the current display that work of unknown length is going on."""
    display = _display.get()
    return nullcontext() if display is None else display.busy(description)


@contextmanager
def shown_on(display: Display) -> Iterator[None]:
    """Draw the progress of the block on `display`."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)
