"""Two processes at once: one owns what both write, and the other one waits or ends with one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcs_edge.utils.files import is_draft
from tcs_edge.utils.lock import owned_file, owned_folder

LIMITS = ("--max-size-mb", 100)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def refused(result, what: Path) -> None:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {what} is in use by process "), line
    assert line.endswith("Wait for that process, or stop it.")


def unfinished(run: Path) -> Path:
    """Take the verdict back, so that the run can continue."""
    (run / "manifest.json").unlink()
    (run / "export").rename(run / "export.unvalidated")
    return run


def test_nobody_writes_into_a_run_that_another_process_writes(cli, tiny, own_run, tmp_path):
    going_on = unfinished(shutil.copytree(own_run, tmp_path / "runs" / "other"))
    before = names(own_run)
    with owned_folder(own_run), owned_folder(going_on):
        refused(cli(*tiny(), "--out", own_run, "--overwrite"), own_run)
        refused(cli("compress", "--resume", going_on), going_on)
        refused(cli("compress", "--resume", going_on.parent), going_on)
        refused(cli("validate", own_run, "--revoke"), own_run)
        refused(cli("report", own_run), own_run)
        refused(cli("report", own_run, "--out", own_run / "reports" / "mine.html"), own_run)
    assert names(own_run) == before
    assert cli("report", own_run).exit_code == 0


def test_readers_need_no_lock(cli, own_run, photos, tmp_path):
    with owned_folder(own_run):
        assert cli("gate", own_run, *LIMITS).exit_code == 0
        assert cli("predict", own_run, photos / "test" / "red" / "01.png").exit_code == 0
        assert cli("report", own_run, "--out", tmp_path / "page.html").exit_code == 0
        other = shutil.copytree(own_run, tmp_path / "other")
        assert cli("report", own_run, other, "--out", tmp_path / "both.html").exit_code == 0


def test_resume_of_a_folder_leaves_out_runs_in_use(cli, make_run, tmp_path):
    """The older run continues, as far as its files allow, while the newer one is in use."""
    from tcs_edge.project.read import find_resumable
    from tcs_edge.runs.folder import MARKER
    from tcs_edge.specs.config import CompressConfig, config_toml

    runs = [tmp_path / "runs" / name for name in ("older", "newer")]
    for number, run in enumerate(runs):
        run.mkdir(parents=True)
        shutil.copy(make_run("marked") / MARKER if not number else runs[0] / MARKER, run)
        (run / "config.resolved.toml").write_text(config_toml(CompressConfig(target="raspberrypi4")))
    assert find_resumable(runs[0].parent, {}) == runs[1]
    with owned_folder(runs[1]):
        assert find_resumable(runs[0].parent, {}) == runs[0]


def test_a_file_has_one_writer(cli, finished, tmp_path):
    profile, baseline, bundle = tmp_path / "mine.json", tmp_path / "gate.json", tmp_path / "bundle"
    measure = ("--model", "test_resnet", "--img-size", 32, "--runtime", "onnxruntime", "--threads", 1)
    with owned_file(profile), owned_file(baseline), owned_file(bundle):
        refused(cli("profile", "merge", "raspberrypi4", "--out", profile), profile)
        refused(cli("profile", "--target", "x86-avx2", "--out", profile, *measure), profile)
        refused(cli("gate", finished, "--update-baseline", baseline), baseline)
        refused(cli("bundle", finished, "--out", bundle), bundle)
    assert list(tmp_path.iterdir()) == []
    assert cli("profile", "merge", "raspberrypi4", "--out", profile).exit_code == 0
    assert cli("gate", finished, "--update-baseline", baseline).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate.json", "mine.json"]


def test_results_of_bench_have_one_writer(cli, photos, tmp_path):
    out = tmp_path / "bench"
    student = ("--student", "lcnet_050", "--student-init", "random", "--img-size", 32, "--workers", 0)
    with owned_folder(out):
        refused(cli("bench", "--data", photos, "--methods", "ce", "--seeds", 1, *student, "--out", out), out)
    assert not out.exists()


@pytest.mark.slow
def test_two_processes_make_one_run_that_passes(cli, tiny, tmp_path):
    """The same command twice at the same time, with a new cache and a new folder."""
    run, cache = tmp_path / "run", tmp_path / "cache"
    arguments = tiny(student="test_resnet", img_size=32, epochs=4, cache_dir=cache)
    command = [sys.executable, "-m", "tcs_edge", *arguments, "--out", str(run)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in both]
    assert sorted(code for _, code in ended) == [0, 2], ended
    (output,) = [output for output, code in ended if code == 2]
    last = output.splitlines()[-1]
    assert f"{run} is in use by process" in last or f"{run} is not empty" in last
    assert cli("gate", run, *LIMITS).exit_code == 0
    assert not [name for name in names(tmp_path) if is_draft(Path(name).name) or name.endswith(".lock")]


@pytest.mark.slow
def test_two_resumes_of_one_run_end_in_one_verdict(cli, own_run):
    """The first one had deleted the exports that the second one validated."""
    run = unfinished(own_run)
    command = [sys.executable, "-m", "tcs_edge", "compress", "--resume", str(run)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in both]
    assert sorted(code for _, code in ended) == [0, 2], ended
    (output,) = [output for output, code in ended if code == 2]
    last = output.splitlines()[-1]
    assert f"{run} is in use by process" in last or "nothing to resume" in last
    assert cli("gate", run, *LIMITS).exit_code == 0
    paths = [record["path"] for record in json.loads((run / "manifest.json").read_text())["files"]]
    assert not [path for path in paths if is_draft(Path(path).name) or path.endswith(".lock")]
