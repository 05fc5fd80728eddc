"""How a stage tells the outside what it does, without knowing who listens.

Stages take a `Reporter`; the command line passes one that draws on stderr, the Python API
and the tests pass nothing and get `Silent`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Reporter(Protocol):
    """Receives a stage's words and its progress."""

    def say(self, text: str) -> None:
        """One line that the user should read."""

    def warn(self, text: str) -> None:
        """One line that the user must not miss."""

    def detail(self, text: str) -> None:
        """One line for -v and the log."""

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        """Pass `items` through while showing how far it is."""

    def busy(self, description: str) -> AbstractContextManager[object]:
        """Show that something goes on whose length nobody knows."""


class Silent:
    """A reporter that tells nobody."""

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        yield from items

    def busy(self, description: str) -> AbstractContextManager[object]:
        return nullcontext()
