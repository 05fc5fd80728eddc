"""Tests of the logging of a run: records reach the log file, and the host's loggers are restored."""

from __future__ import annotations

import logging

import pytest

from tcs_edge.utils.logs import logged_to, logged_to_file, warnings_only
from tcs_edge.utils.progress import busy, shown_on, track

logger = logging.getLogger("tcs_edge.some.module")
package = logging.getLogger("tcs_edge")


def state():
    return package.level, package.propagate, list(package.handlers), logging.getLogger().level


def test_early_and_late_records_reach_the_file_in_order(tmp_path):
    before = state()
    with logged_to_file() as keep_in:
        logger.debug("early")
        keep_in(tmp_path / "train.log")
        logger.info("late")
        assert "late" in (tmp_path / "train.log").read_text(encoding="utf-8")
    text = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert [line.split(" ", 3)[2:] for line in text.splitlines()] == [["DEBUG", "early"], ["INFO", "late"]]
    assert state() == before


def fail_while_logging(path):
    with logged_to_file() as keep_in, logged_to(logging.NullHandler()):
        keep_in(path)
        raise ValueError("stop")


def test_a_failing_block_restores_the_host(tmp_path):
    before = state()
    with pytest.raises(ValueError, match="stop"):
        fail_while_logging(tmp_path / "train.log")
    assert state() == before


@pytest.mark.parametrize(("level", "received"), [(logging.WARNING, ["w"]), (logging.DEBUG, ["d", "w"])])
def test_host_handlers_receive_their_own_level_once(caplog, level, received):
    with caplog.at_level(level), logged_to(logging.NullHandler()), logged_to(logging.NullHandler()):
        logger.debug("d")
        logger.warning("w")
    assert [record.getMessage() for record in caplog.records] == received


def test_warnings_only_drops_messages(recorder):
    with warnings_only():
        logger.info("dropped")
        logger.warning("kept")
    logger.info("again")
    assert (recorder.said, recorder.warned) == (["again"], ["kept"])


def test_progress_without_a_display_passes_items_through(recorder):
    with busy("waiting"):
        assert list(track(iter("ab"), "letters", total=2)) == ["a", "b"]
    assert recorder.tracked == [("letters", 2)]
    with shown_on(recorder):
        list(track("xyz", "more"))
    assert recorder.tracked[1:] == [("more", None)]
