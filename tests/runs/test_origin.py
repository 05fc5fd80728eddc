"""Relative paths in a run's options: found from any folder, and after a move of the project."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tcs_edge.project.read import read_options
from tcs_edge.runs.folder import MARKER, open_run
from tcs_edge.runs.origin import path_of_run, recorded_data


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project with photos/ and a run that was started in it; the current folder is another one."""
    root = tmp_path / "my project"
    (root / "photos").mkdir(parents=True)
    (root / "w.safetensors").write_bytes(b"")
    (root / "device.toml").write_text("")
    monkeypatch.chdir(root)
    run = open_run(Path("runs/a"))
    run.config.write_text(
        'target = "device.toml"\ndata = "photos"\nteacher_weights = "w.safetensors"\nstudent_init = "w.safetensors"\n'
        'cache_dir = "/var/cache"\n'
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return root


def test_a_relative_path_is_found_from_elsewhere(project, monkeypatch):
    run = project / "runs/a"
    assert path_of_run(run, "photos") == project / "photos"
    assert path_of_run(run, project / "photos") == project / "photos"
    assert recorded_data(run, {"data": "photos"}) == project / "photos"
    assert recorded_data(run, {}) is None
    monkeypatch.chdir(project)
    assert path_of_run(Path("runs/a"), "photos") == Path("photos")


def test_a_moved_project_keeps_its_images(project, tmp_path):
    moved = Path(shutil.move(project, tmp_path / "moved"))
    assert path_of_run(moved / "runs/a", "photos") == moved / "photos"


def test_the_current_folder_serves_a_run_that_was_moved_alone(project, tmp_path, monkeypatch):
    moved = Path(shutil.move(project / "runs/a", tmp_path / "a"))
    monkeypatch.chdir(project)
    assert path_of_run(moved, "photos") == Path("photos")


def test_a_run_without_its_start_uses_the_current_folder(project):
    (project / "runs/a" / MARKER).write_text(json.dumps({"schema_version": 1, "kind": "tcs-edge run"}))
    assert path_of_run(project / "runs/a", "photos") == Path("photos")


def test_the_marker_has_no_absolute_path(project):
    assert str(project) not in (project / "runs/a" / MARKER).read_text()


@pytest.mark.parametrize("how", ["resume", "config"])
def test_options_of_a_run_hold_in_every_folder(project, monkeypatch, how):
    def read(run: Path):
        return read_options({}, None, run) if how == "resume" else read_options({}, run / "config.resolved.toml", None)

    options = read(project / "runs/a")
    assert options.data == project / "photos"
    assert (options.target, options.student_init) == (str(project / "device.toml"), str(project / "w.safetensors"))
    assert (options.teacher_weights, options.cache_dir) == (project / "w.safetensors", Path("/var/cache"))
    monkeypatch.chdir(project)
    options = read(Path("runs/a"))
    assert (options.data, options.target) == (Path("photos"), "device.toml")
    (project / "own.toml").write_text('target = "raspberrypi4"\ndata = "photos"\n')
    assert read_options({}, project / "own.toml", None).data == Path("photos")


def test_validate_finds_relative_images_from_elsewhere(cli, own_run, own_photos, tmp_path, monkeypatch):
    manifest = json.loads((own_run / "manifest.json").read_text())
    manifest["options"]["data"] = "photos"
    (own_run / "manifest.json").write_text(json.dumps(manifest))
    marker = json.loads((own_run / MARKER).read_text())
    (own_run / MARKER).write_text(json.dumps(marker | {"started_in": ".."}))
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    result = cli("validate", own_run, "--quiet")
    assert result.exit_code == 0, result.stderr
    own_photos.rename(tmp_path / "pictures")
    moved = cli("validate", own_run, "--quiet")
    assert moved.exit_code == 3
    assert f"no image folder {own_photos}, as recorded in {own_run}. Pass --data DIR" in moved.stderr
    assert cli("validate", own_run, "--quiet", "--data", tmp_path / "pictures").exit_code == 0
