"""Place of a new run: default names, checks without traces, and removal after a failed start."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tcs_edge.errors import MissingError, UsageError
from tcs_edge.runs.folder import MARKER, open_run
from tcs_edge.runs.place import default_out, later_runs, require_writable, started_run


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def start(out: Path | None, default: Path, overwrite: bool = False) -> Path:
    with started_run(out, default, overwrite) as run:
        return run.root


def write_then_fail(path: Path) -> float:
    path.write_text("started")
    return 1 / 0


def fail_to_start(out: Path | None, default: Path, overwrite: bool = False) -> None:
    with pytest.raises(ZeroDivisionError), started_run(out, default, overwrite) as run:
        write_then_fail(run.log)


def test_the_default_folder_has_date_target_and_student():
    expected = Path("runs/2026-03-01-raspberrypi4-lcnet_050")
    assert default_out("raspberrypi4", "lcnet_050", date(2026, 3, 1)) == expected


def test_later_runs_of_a_day_are_numbered(tmp_path):
    default = tmp_path / "runs" / "day"
    assert [start(None, default).name for _ in range(3)] == ["day", "day-2", "day-3"]
    (tmp_path / "runs" / "day-5").write_text("a file of the user")
    (tmp_path / "runs" / "day-x").mkdir()
    assert [start(None, default).name for _ in range(2)] == ["day-4", "day-6"]
    assert [run.name for run in later_runs(default)] == ["day-2", "day-3", "day-4", "day-6"]
    assert later_runs(tmp_path / "none" / "day") == []


def test_an_explicit_folder_is_never_numbered(tmp_path):
    out = tmp_path / "mine"
    assert start(out, tmp_path / "day") == out
    with pytest.raises(UsageError, match="not empty"):
        start(out, tmp_path / "day")
    assert start(out, tmp_path / "day", overwrite=True) == out
    assert contents(tmp_path) == {"mine"} | {f"mine/{name}" for name in contents(out)}


def test_overwrite_without_out_replaces_the_first_run(tmp_path):
    default = tmp_path / "day"
    first = start(None, default)
    (first / "README.md").write_text("earlier")
    assert start(None, default, overwrite=True) == first
    assert not (first / "README.md").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["day"]


@pytest.mark.parametrize("named", [False, True])
def test_a_failed_start_leaves_no_folder(tmp_path, named):
    place = tmp_path / "a" / "runs" / "day"
    fail_to_start(place if named else None, place)
    assert contents(tmp_path) == set()


def test_a_failed_start_keeps_what_was_there(tmp_path):
    runs, mine = tmp_path / "runs", tmp_path / "mine"
    mine.mkdir()
    start(None, runs / "day")
    before = contents(tmp_path)
    fail_to_start(None, runs / "day")
    fail_to_start(mine, runs / "day")
    assert contents(tmp_path) == before


def test_a_refused_folder_keeps_its_files(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        start(tmp_path, tmp_path)
    earlier = open_run(tmp_path / "run").root
    (earlier / "thesis.docx").write_text("three years of work")
    with pytest.raises(UsageError, match=r"thesis\.docx"):
        start(earlier, earlier, overwrite=True)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert {MARKER, "thesis.docx"} <= contents(earlier)


def test_the_check_of_a_place_leaves_nothing_behind(tmp_path):
    require_writable(tmp_path / "a" / "b" / "run")
    assert contents(tmp_path) == set()
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(MissingError, match="cannot be written"):
            require_writable(place)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for place in (None, tmp_path / "dangling" / "run"):
        with pytest.raises(MissingError, match="cannot be written"):
            start(place, tmp_path / "dangling" / "run")
    assert contents(tmp_path) == {"file", "dangling"}
