"""Handlers of the `tcs_edge` logger for the duration of a block; afterwards the host's logging is restored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path

EARLY_RECORDS = 10_000  # kept in memory until the run has a folder
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _Host(logging.Handler):
    """Pass records to the host's handlers at the host's own level."""

    def emit(self, record: logging.LogRecord) -> None:
        root = logging.getLogger()
        if root.handlers:
            root.callHandlers(record)


@contextmanager
def logged_to(handler: logging.Handler) -> Iterator[None]:
    """Send every record of `tcs_edge` also to `handler`, for any level of the host's logger."""
    logger = logging.getLogger("tcs_edge")
    before = logger.level, logger.propagate
    added = [handler]
    if logger.propagate:  # only the outermost block forwards records to the host
        host = _Host(level=logger.getEffectiveLevel())
        added.append(host)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    for each in added:
        logger.addHandler(each)
    try:
        yield
    finally:
        for each in added:
            logger.removeHandler(each)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@contextmanager
def logged_to_file() -> Iterator[Callable[[Path], None]]:
    """Keep every record of the block; call the yielded function with the path of the log file to write them."""
    early = MemoryHandler(capacity=EARLY_RECORDS, flushLevel=logging.CRITICAL)
    with ExitStack() as stack:
        stack.enter_context(logged_to(early))

        def keep_in(path: Path) -> None:
            file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
            file.setFormatter(logging.Formatter(FORMAT))
            stack.callback(file.close)
            early.setTarget(file)
            early.flush()
            early.flushLevel = logging.NOTSET  # from here on every record is written immediately

        yield keep_in


@contextmanager
def errors_only() -> Iterator[None]:
    """Drop the package's records below the level of an error."""
    with _from_level(logging.ERROR):
        yield


@contextmanager
def warnings_only() -> Iterator[None]:
    """Drop the package's records below the level of a warning."""
    with _from_level(logging.WARNING):
        yield


@contextmanager
def _from_level(lowest: int) -> Iterator[None]:
    logger = logging.getLogger("tcs_edge")
    level = logger.level
    logger.setLevel(lowest)
    try:
        yield
    finally:
        logger.setLevel(level)
