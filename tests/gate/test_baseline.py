"""Baselines: every source is readable, and models that are not comparable are refused."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess

import pytest

from tcs_edge.errors import RequirementMissed, UsageError
from tcs_edge.gate.baseline import comparable, load_baseline, write_baseline
from tcs_edge.gate.subject import load_subject


def test_the_written_baseline_equals_the_run(make_run, tmp_path):
    run = make_run()
    path = tmp_path / "gate.json"
    write_baseline(path, load_subject(run))
    written, direct = load_baseline(str(path)), load_baseline(str(run))
    assert written.values == direct.values
    assert (written.target, written.precisions, written.images) == ("raspberrypi4", {"onnxruntime": "f32"}, "ab")
    assert path.stat().st_size < 4000


def test_a_baseline_from_git(make_run, tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    repository.mkdir()
    run = make_run()
    shutil.copytree(run, repository / "runs" / "a")
    write_baseline(repository / "gate.json", load_subject(run))
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "-f", "."], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", *arguments], cwd=repository, check=True, timeout=60)
    monkeypatch.chdir(repository)
    (repository / "gate.json").unlink()
    expected = load_baseline(str(run)).values
    for place in ("git:HEAD:gate.json", "git:HEAD:runs/a", "git:HEAD:runs/a/manifest.json"):
        assert load_baseline(place).values == expected
    for place in ("git:HEAD:none.json", "git:none:gate.json", "git:HEAD", "git:--output=x:gate.json", "git::x"):
        with pytest.raises(UsageError) as caught:
            load_baseline(place)
        assert len(str(caught.value).splitlines()) == 1


def test_a_repository_of_another_user_gets_the_command_that_trusts_it(cli, make_run, tmp_path, monkeypatch):
    repository = tmp_path / "my repository"
    repository.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True, timeout=60)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    (repository / "models").mkdir()
    monkeypatch.chdir(repository / "models")
    result = cli("gate", make_run(), "--baseline", "git:HEAD:gate.json", "--max-change", "size_mb=5%")
    assert result.exit_code == 2
    assert "another user owns this repository" in result.stderr
    command = shlex.split(result.stderr.split("Run: ")[1].splitlines()[0])
    assert command == ["git", "config", "--global", "--add", "safe.directory", str(repository)]
    subprocess.run(command, check=True, timeout=60)
    with pytest.raises(UsageError, match=r"git has no baseline HEAD:gate\.json"):
        load_baseline("git:HEAD:gate.json")


@pytest.mark.parametrize(
    ("other", "words"), [({"target": "raspberrypi5"}, "another target"), ({"precision": "bf16"}, "another precision")]
)
def test_another_target_or_precision_is_refused_unless_allowed(make_run, other, words):
    head, base = load_subject(make_run("head")), load_baseline(str(make_run("base", **other)))
    with pytest.raises(UsageError, match=f"{words}.*--allow-other-target"):
        comparable(head, base, allow_other_target=False)
    assert comparable(head, base, allow_other_target=True).values == base.values


def test_a_bare_file_and_a_run_have_no_comparable_precision(make_run, onnx_path):
    with pytest.raises(UsageError, match="--allow-other-target"):
        comparable(load_subject(make_run()), load_baseline(str(onnx_path)), allow_other_target=False)


def test_a_baseline_of_other_images_has_no_accuracy(make_run):
    head, base = load_subject(make_run("head")), load_baseline(str(make_run("base", images="cd")))
    left = comparable(head, base, allow_other_target=False)
    assert "total_mb" in left.values
    assert not any(key.startswith("accuracy") for key in left.values)
    assert "other images" in left.remark


@pytest.mark.parametrize("broken", ["changed", "failed"])
def test_a_failed_or_changed_run_cannot_be_a_baseline(make_run, tmp_path, broken):
    run = make_run(passed=broken != "failed")
    if broken == "changed":
        (run / "export" / "model.onnx").write_bytes(b"v")
    with pytest.raises(UsageError, match="baseline"):
        load_baseline(str(run))
    with pytest.raises(RequirementMissed, match="was not written"):
        write_baseline(tmp_path / "gate.json", load_subject(run))
    assert not (tmp_path / "gate.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"values": {"size_mb": "much"}},
        {"values": {"size_mb": float("inf")}},
        {"color": "red"},
        {"kind": "another"},
    ],
)
def test_a_damaged_baseline_is_refused_in_one_line(make_run, tmp_path, change):
    path = tmp_path / "gate.json"
    write_baseline(path, load_subject(make_run()))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match="baseline") as caught:
        load_baseline(str(path))
    assert "\n" not in str(caught.value)
