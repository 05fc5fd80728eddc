"""Place of a new run: default names, checks without traces, and removal after a failed start."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest

from tcs_edge.errors import DataError, InUse, MissingError, UsageError
from tcs_edge.runs.folder import MARKER, RunFolder, open_run
from tcs_edge.runs.place import RunOwner, default_out, later_runs, require_writable, started_run
from tcs_edge.runs.resume import options_of


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def start(out: Path | None, default: Path, overwrite: bool = False) -> Path:
    with RunOwner() as owner, started_run(out, default, overwrite, owner) as run:
        run.config.write_text("started")
        return run.root


def write_then_fail(path: Path) -> float:
    path.write_text("started")
    return 1 / 0


def fail_to_start(out: Path | None, default: Path, overwrite: bool = False) -> None:
    with pytest.raises(ZeroDivisionError), RunOwner() as owner, started_run(out, default, overwrite, owner) as run:
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


def test_a_run_folder_has_one_owner(tmp_path):
    place = tmp_path / "day"
    with RunOwner() as owner, started_run(None, place, False, owner) as run:
        run.config.write_text("started")
        with RunOwner() as other, pytest.raises(InUse, match="day is in use by process"):
            other.own(place)
        with RunOwner() as other, pytest.raises(InUse), started_run(place, place, True, other):
            pass
        assert (run.root / MARKER).is_file()
        owner.own(place)  # once more is no conflict
        assert start(None, place) == tmp_path / "day-2"
    with RunOwner() as owner:
        owner.own(place)
    assert contents(place) == STARTED


STARTED = {MARKER, "checkpoints", "config.resolved.toml", "export.unvalidated", "reports"}
TRACES = {
    "nothing": [],
    "the check of the place": [".draft-4000000/"],
    "the lock": [".tcs-edge.lock"],
    "a half-written marker": [".tcs-edge.lock", ".tcs-edge-run.draft-4000000.json"],
    "two starts": [".draft-4000000/", ".tcs-edge-run.draft-4000001.json"],
    "a start without options": [MARKER, "checkpoints/", "reports/", "reports/choice.json", "reports/.x.draft-4000000"],
}


@pytest.mark.parametrize("traces", TRACES)
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_a_start_that_was_killed_is_no_obstacle(tmp_path, traces, overwrite, named):
    place = tmp_path / "day"
    place.mkdir()
    for name in TRACES[traces]:
        (place / name).mkdir() if name.endswith("/") else (place / name).write_text("{")
    if MARKER in TRACES[traces]:
        shutil.copy(open_run(tmp_path / "other").root / MARKER, place)
        shutil.rmtree(tmp_path / "other")
    with pytest.raises(DataError, match="stopped at its start"):
        options_of(place)
    assert start(place if named else None, place, overwrite) == place
    assert contents(place) == STARTED
    assert [entry.name for entry in tmp_path.iterdir()] == ["day"]


def test_a_run_without_its_options_names_the_way_out(tmp_path):
    place = start(tmp_path / "my run", tmp_path)
    (place / "train.log").write_text("started")
    (place / "config.resolved.toml").unlink()
    with pytest.raises(UsageError, match="not empty"):
        start(place, tmp_path)
    with pytest.raises(UsageError, match=r"no config.resolved.toml.*--out '.*my run' --overwrite"):
        options_of(place)
    assert start(place, tmp_path, overwrite=True) == place


def test_an_overwriting_that_was_killed_can_be_repeated(tmp_path, monkeypatch):
    """Whatever is left, the run neither passes nor continues, and --overwrite replaces it."""
    for count in range(1, 8):
        run = RunFolder(start(tmp_path / f"run{count}", tmp_path))
        for path in (run.manifest, run.config, run.log, run.model_card, run.deployed_weights):
            path.write_text("earlier")
        removed = []

        def remove(entry: Path, removed=removed, count=count) -> None:
            if len(removed) == count:
                raise KeyboardInterrupt
            removed.append(entry.name)
            entry.rmdir() if entry.is_dir() and not any(entry.iterdir()) else entry.unlink()

        run.deployed_weights.unlink()
        with monkeypatch.context() as patched:
            patched.setattr("tcs_edge.runs.folder.remove", remove)
            with pytest.raises(KeyboardInterrupt):
                start(run.root, tmp_path, overwrite=True)
        assert removed[0] == "manifest.json"
        assert count < 2 or removed[1] == "config.resolved.toml"
        assert start(run.root, tmp_path, overwrite=True) == run.root
        assert MARKER in contents(run.root)
        assert "README.md" not in contents(run.root)
