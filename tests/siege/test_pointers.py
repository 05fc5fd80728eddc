"""Git LFS pointers and byte order marks in place of every file from outside."""

from __future__ import annotations

import codecs
import json
import shutil
from pathlib import Path

import pytest

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
FIX = "Run: git lfs pull"


def add_mark(path: Path) -> None:
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())


@pytest.fixture
def pointer(tmp_path):
    """pointer("p.onnx"): a Git LFS pointer under this name."""

    def write(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(POINTER)
        return path

    return write


@pytest.mark.parametrize("name", ["tcs-edge-run.json", "manifest.json", "export/model.onnx", "export/labels.txt"])
@pytest.mark.parametrize("command", ["validate", "predict", "bundle", "gate"])
def test_pointers_in_a_run_folder_are_named(cli, make_run, tmp_path, command, name):
    run = make_run()
    (run / name).write_bytes(POINTER)
    more = {"predict": [tmp_path / "a.png"], "gate": ["--max-params-m", 100]}.get(command, [])
    (tmp_path / "a.png").write_bytes(b"")
    (run / "export" / "preprocess.json").write_text("{}")
    result = cli(command, run, *more)
    assert result.exit_code in (1, 2, 3)
    text = " ".join((result.stderr + result.stdout).split())
    assert "a Git LFS pointer" in text
    assert FIX in text


def test_deployed_weights_that_are_a_pointer_are_named(cli, own_run, photos):
    (own_run / "checkpoints" / "deployed.safetensors").write_bytes(POINTER)
    result = cli("compare", own_run / "export" / "model.onnx", own_run, "--data", photos)
    assert result.exit_code == 3
    assert f"deployed.safetensors is a Git LFS pointer, not the file itself. {FIX}" in result.stderr


def test_models_and_documents_that_are_pointers_are_named(cli, make_run, pointer, tmp_path):
    run = make_run()
    (tmp_path / "q.xml").write_text("<net/>")
    pointer("q.bin")
    limits = ["--max-params-m", 100]
    for words in (
        ["gate", pointer("p.onnx"), *limits],
        ["gate", pointer("p.xml"), *limits],
        ["gate", run, "--baseline", pointer("p.json"), "--max-change", "size_mb=5%"],
        ["gate", run, "--selfcheck", pointer("p.json"), "--max-latency-ms", 9],
        ["profile", "merge", pointer("p.json"), "--out", tmp_path / "merged.json"],
        ["candidates", "--target", pointer("p.toml")],
        ["compress", "--config", pointer("p.toml")],
    ):
        result = cli(*words)
        assert result.exit_code == 2, (words, result.stderr)
        assert f"is a Git LFS pointer, not the file itself. {FIX}" in result.stderr, words


def test_images_that_are_pointers_are_named(cli, tiny, own_photos):
    for path in (own_photos / "train" / "red").iterdir():
        path.write_bytes(POINTER)
    result = cli(*tiny(data=own_photos), "--dry-run")
    assert result.exit_code == 3
    assert f"a Git LFS pointer, not the image itself. {FIX}" in result.stderr


def test_byte_order_marks_are_ignored(cli, make_run, tmp_path, monkeypatch):
    run, baseline = make_run(), tmp_path / "gate.json"
    assert cli("gate", run, "--update-baseline", baseline).exit_code == 0
    project = tmp_path / "project"
    project.mkdir()
    (project / "tcs-edge.toml").write_text('target = "device.toml"\n[gate]\nmax_params_m = 100\n')
    shipped = Path(__file__).parents[2] / "targets" / "raspberrypi4.toml"
    shutil.copy(shipped, project / "device.toml")
    shutil.copy(shipped.parents[1] / "profiles" / "raspberrypi4.json", project / "profile.json")
    for path in (baseline, run / "manifest.json", run / "tcs-edge-run.json", *project.iterdir()):
        add_mark(path)
    monkeypatch.chdir(project)
    result = cli("gate", run, "--baseline", baseline, "--max-change", "size_mb=5%", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["verdict"] == "pass"
    assert cli("candidates", "--target", "device.toml").exit_code == 0
    merged = cli("profile", "merge", "profile.json", "--target", "raspberrypi4", "--out", tmp_path / "merged.json")
    assert merged.exit_code == 0, merged.stderr
