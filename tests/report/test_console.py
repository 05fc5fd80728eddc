"""Remarks go to stderr, results to stdout, and neither is garbled."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from tcs_edge.report.console import Terminal, print_table, terminal
from tcs_edge.utils.progress import busy, for_bar, track

logger = logging.getLogger("tcs_edge.test")

HOSTILE = "[/b] [red]x[/red] :cat: Straße <&> C:\\new"


def log_everything():
    logger.info("s")
    logger.warning("w")
    logger.debug("d")


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [(-1, ["warning: w"]), (0, ["s", "warning: w"]), (1, ["s", "warning: w", "d"])],
)
def test_verbosity_selects_the_levels(capsys, verbosity, expected):
    with terminal(verbosity):
        log_everything()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == expected


def test_a_warning_without_a_terminal_is_printed_once():
    code = "import logging; logging.getLogger('tcs_edge.x').warning('careful')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines() == ["careful"]


def test_text_is_shown_as_it_is(capsys):
    with terminal():
        logger.info(HOSTILE)
    print_table(("name", "what"), [("a", HOSTILE)], title=None)
    captured = capsys.readouterr()
    assert HOSTILE in captured.err
    assert HOSTILE in captured.out


def test_a_long_line_stays_one_line_when_piped(capsys):
    long = "word " * 200 + "end"
    with terminal():
        logger.warning(long)
    print_table(("name", "what"), [("a", long)])
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert len(captured.out.splitlines()) == 2


def test_no_escape_codes_where_nobody_sees_colors(capsys):
    with terminal():
        logger.warning("careful")
    print_table(("a",), [("b",)], title="t")
    captured = capsys.readouterr()
    assert "\x1b" not in captured.err + captured.out


def test_tracking_passes_everything_through_once(capsys):
    assert list(Terminal().track(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""


def test_numbers_are_aligned_right(capsys):
    print_table(("name", "size MB"), [("a", "1.5"), ("b", "100.5")])
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line.rstrip()) for line in lines}) == 1


def test_waiting_shows_nothing_where_there_is_no_terminal(capsys):
    with terminal(), busy("exporting"):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_a_record_for_the_bar_is_a_line_without_one(capsys):
    with terminal():
        for _ in track(range(2), "distill", 2):
            logger.info("epoch 1 of 2: loss 0.1", extra=for_bar("epoch 1/2"))
    assert capsys.readouterr().err.splitlines() == ["epoch 1 of 2: loss 0.1"] * 2


def test_a_record_for_the_bar_changes_its_text(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the output for a terminal
    monkeypatch.delenv("CI", raising=False)
    with terminal() as shown:
        assert shown.bars
        for _ in track(range(2), "distill", 2):
            logger.info("epoch 1 of 2: loss 0.1", extra=for_bar("epoch 1/2"))
        assert shown.drawn == []
        logger.info("epoch 2 of 2: loss 0.1", extra=for_bar("epoch 2/2"))
    err = capsys.readouterr().err
    assert "epoch 1/2" in err
    assert "epoch 1 of 2" not in err
    assert "epoch 2 of 2: loss 0.1" in err
