"""Tests of reading tcs-edge.toml and pyproject.toml, and of messages on wrong keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcs_edge.errors import DataError, SpecError, UsageError
from tcs_edge.project.read import find_limits, find_options, find_resumable
from tcs_edge.runs.folder import open_run


def test_folder_without_file_has_no_options(tmp_path):
    assert find_options(tmp_path) is None
    (tmp_path / "tcs-edge.toml").mkdir()
    assert find_options(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tcs-edge.toml", "[gait]\nmax_size_mb = 1\n", "Did you mean gate"),
        ("tcs-edge.toml", "epoch = 3\n", "Did you mean epochs"),
        ("tcs-edge.toml", "epochs = 'many'\n[gate]\nmax_size_mb = 1\n", "epochs"),
        ("tcs-edge.toml", "[tcs]\ndimms = 3\n", "Did you mean dims"),
        ("pyproject.toml", "[tool.tcs-edge.gaet]\nmax_size_mb = 1\n", "Did you mean gate"),
        ("pyproject.toml", "[tool.tcs-edge.gate]\nmax_sise_mb = 1\n", "Did you mean max_size_mb"),
        ("pyproject.toml", "[tool]\ntcs-edge = 3\n", "tcs-edge"),
    ],
)
def test_misspelled_key_raises(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        find_limits(tmp_path, {"max_size_mb": 5.0})
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "tool = 3\n", "[tool]\nother = 1\n"])
def test_pyproject_without_tcs_edge_has_no_limits(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    limits, origin = find_limits(tmp_path, {})
    assert not limits.any
    assert origin is None


@pytest.fixture
def run_at(tmp_path):
    """run_at(name, hour, state): a run with its last log line at `hour`, stopped ("open"), passed or rejected."""

    def make(name: str, hour: int, state: str = "open") -> Path:
        run = open_run(tmp_path / name)
        run.config.write_text('target = "raspberrypi4"\nprecision = ["fp32", "int8"]\n')
        run.log.write_text("INFO images: photos\n")
        os.utime(run.log, (3600 * hour, 3600 * hour))
        if state != "open":
            run.deployed_weights.write_bytes(b"weights")
            run.manifest.write_text("{}")
            run.apply_verdict(state == "passed")
        return run.root

    return make


def test_resume_continues_the_run_that_it_names(run_at):
    first, _ = run_at("runs/day", 1), run_at("runs/day-2", 2)
    assert find_resumable(first, {}) == first


def test_resume_of_a_finished_run_continues_the_newest_later_one_that_fits(run_at):
    first = run_at("runs/day", 5, "passed")
    with pytest.raises(UsageError, match="nothing to resume"):
        find_resumable(first, {})
    run_at("runs/day-2", 3)
    newest = run_at("runs/day-3", 4)
    run_at("runs/day-4", 9, "passed")
    run_at("runs/other", 9)
    assert find_resumable(first, {}) == newest
    (newest / "config.resolved.toml").write_text("target = 3\n")
    assert find_resumable(first, {}).name == "day-2"


def test_resume_of_a_folder_of_runs_continues_the_newest_that_fits(run_at, tmp_path):
    with pytest.raises(DataError, match="no such run folder"):
        find_resumable(tmp_path / "runs", {})
    run_at("runs/a", 1)
    newest = run_at("runs/b", 2)
    rejected = run_at("runs/c", 3, "rejected")
    assert find_resumable(tmp_path / "runs", {}) == newest
    assert find_resumable(tmp_path / "runs", {"precision": ("fp32",)}) == rejected
    with pytest.raises(UsageError, match="Leave --epochs out"):
        find_resumable(tmp_path / "runs", {"epochs": 3})


def test_resume_of_finished_runs_names_their_number(run_at, tmp_path):
    run_at("runs/day", 1, "passed")
    run_at("runs/day-2", 2, "passed")
    for place in ("runs", "runs/day"):
        with pytest.raises(UsageError, match=r"none of its 2 runs can continue\. Omit --resume"):
            find_resumable(tmp_path / place, {})
