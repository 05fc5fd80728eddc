"""Remarks go to stderr, results to stdout, and neither is garbled."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from tcs_edge.report.console import ConsoleReporter, print_table

HOSTILE = "[/b] [red]x[/red] :cat: Straße <&> C:\\new"


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [(-1, ["warning: w"]), (0, ["s", "warning: w"]), (1, ["s", "warning: w", "d"])],
)
def test_how_much_is_said(capsys, verbosity, expected):
    reporter = ConsoleReporter(verbosity)
    reporter.say("s")
    reporter.warn("w")
    reporter.detail("d")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == expected


@pytest.mark.parametrize("verbosity", [-1, 0, 1])
def test_everything_said_is_logged(caplog, verbosity, capsys):
    logger = logging.getLogger("tcs_edge")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.DEBUG, logger="tcs_edge"):
            reporter = ConsoleReporter(verbosity)
            reporter.say("s")
            reporter.warn("w")
            reporter.detail("d")
    finally:
        logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"s", "w", "d"}


def test_text_is_shown_as_it_is(capsys):
    ConsoleReporter().say(HOSTILE)
    print_table(("name", "what"), [("a", HOSTILE)], title=None)
    captured = capsys.readouterr()
    assert HOSTILE in captured.err
    assert HOSTILE in captured.out


def test_a_long_line_stays_one_line_when_piped(capsys):
    long = "word " * 200 + "end"
    ConsoleReporter().warn(long)
    print_table(("name", "what"), [("a", long)])
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert len(captured.out.splitlines()) == 2


def test_no_escape_codes_where_nobody_sees_colors(capsys):
    ConsoleReporter().warn("careful")
    print_table(("a",), [("b",)], title="t")
    captured = capsys.readouterr()
    assert "\x1b" not in captured.err + captured.out


def test_tracking_passes_everything_through_once(capsys):
    assert list(ConsoleReporter().track(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""


def test_numbers_are_aligned_right(capsys):
    print_table(("name", "size MB"), [("a", "1.5"), ("b", "100.5")])
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line.rstrip()) for line in lines}) == 1


def test_a_warning_outside_a_run_is_printed_once():
    code = "from tcs_edge.report.console import ConsoleReporter; ConsoleReporter().warn('careful')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines() == ["warning: careful"]


def test_waiting_shows_nothing_where_there_is_no_terminal(capsys):
    with ConsoleReporter().busy("exporting"):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""
