"""Handlers of the `tcs_edge` logger for the length of a block; the host's logging is as it was afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path

EARLY_RECORDS = 10_000  # kept in memory until the run has a folder: images, every rejected student
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _Host(logging.Handler):
    """Pass records on to the host's handlers at the level that the host had set."""

    def emit(self, record: logging.LogRecord) -> None:
        root = logging.getLogger()
        if root.handlers:
            root.callHandlers(record)


@contextmanager
def logged_to(handler: logging.Handler) -> Iterator[None]:
    """Send every record of `tcs_edge` to `handler` too, whatever level the host listens to."""
    logger = logging.getLogger("tcs_edge")
    before = logger.level, logger.propagate
    added = [handler]
    if logger.propagate:  # the outermost block alone stands between the package and the host
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
    """Keep every record of the block; call what is yielded with the file, once there is a folder for it."""
    early = MemoryHandler(capacity=EARLY_RECORDS, flushLevel=logging.CRITICAL)
    with ExitStack() as stack:
        stack.enter_context(logged_to(early))

        def keep_in(path: Path) -> None:
            file = logging.FileHandler(path, encoding="utf-8")
            file.setFormatter(logging.Formatter(FORMAT))
            stack.callback(file.close)
            early.setTarget(file)
            early.flush()
            early.flushLevel = logging.NOTSET  # from here on every record is written at once

        yield keep_in


@contextmanager
def warnings_only() -> Iterator[None]:
    """Drop what the package logs below a warning."""
    logger = logging.getLogger("tcs_edge")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
