"""A run with ncnn models: validated, gated, bundled, checked on the device, and compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcs_edge.gate.subject import load_subject
from tcs_edge.runs.manifest import read_manifest

NAMES = {"ncnn", "ncnn-fp16", "ncnn-device", "ncnn-fp16-device"}


@pytest.fixture(scope="session")
def ncnn_run(cli, tiny, tmp_path_factory) -> Path:
    """Finished run with ncnn models in two precisions. Read only."""
    run = tmp_path_factory.mktemp("ncnn") / "run"
    result = cli(*tiny(), "--format", "ncnn", "--precision", "fp16", "--out", run)
    assert result.exit_code == 0, result.stderr
    return run


@pytest.mark.slow
def test_every_ncnn_model_is_validated_timed_and_recorded(ncnn_run):
    manifest = read_manifest(ncnn_run)
    assert set(manifest.parity) >= NAMES
    assert set(manifest.latency_here.runtimes) >= {"ncnn", "ncnn-fp16"}
    assert {"ncnn", "pnnx"} <= set(manifest.versions)
    checks = {
        check["name"]: check for check in json.loads((ncnn_run / "reports/validation.json").read_text())["checks"]
    }
    assert "fp16_storage on" in checks["ncnn-device: runs on every image"]["detail"]
    assert {"ncnn: preprocessing", "ncnn-fp16: precision", "ncnn: largest difference"} <= set(checks)
    models = {record.path: record for record in manifest.artifacts if record.format == "ncnn"}
    assert set(models) == {"export/ncnn/model.param", "export/ncnn/model.fp16.param"}
    folder = ncnn_run / "export/ncnn"
    whole = sum((folder / f"model.fp16{suffix}").stat().st_size for suffix in (".param", ".bin", ".json"))
    assert models["export/ncnn/model.fp16.param"].bytes == whole
    subject = load_subject(ncnn_run)
    sizes = {measure.of: measure.value for measure in subject.measures if measure.quantity == "size_mb"}
    assert sizes["ncnn/model.fp16.param"] == pytest.approx(whole / 1e6)
    assert {"accuracy/ncnn", "drop/ncnn-fp16"} <= {measure.key for measure in subject.measures}
    assert all(requirement.kept for requirement in subject.requirements)
    assert "ncnn, fp16" in (ncnn_run / "reports/report.html").read_text()


@pytest.mark.slow
def test_a_bundle_for_ncnn_checks_itself_and_predicts(ncnn_run, cli, photos, tmp_path):
    out = tmp_path / "bundle"
    result = cli("bundle", ncnn_run, "--runtime", "ncnn", "--precision", "fp16", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "ncnn==" in (out / "requirements.txt").read_text()
    checked = subprocess.run(
        [sys.executable, "-I", "selfcheck.py", "--seconds", "0.1"], cwd=out, capture_output=True, text=True, timeout=300
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (row,) = json.loads((out / "selfcheck.json").read_text())["rows"]
    assert (row["runtime"], row["precision"]) == ("ncnn", "fp16")
    image = next((photos / "test").rglob("*.png"))
    said = subprocess.run(
        [sys.executable, "-I", "classify.py", str(image), "--json"],
        cwd=out,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stderr
    (answer,) = json.loads(said.stdout)["predictions"]
    told = cli("predict", ncnn_run, image, "--json")
    assert told.exit_code == 0, told.stderr
    expected = json.loads(told.stdout)["predictions"][0]["guesses"][0]
    assert answer["guesses"][0]["label"] == expected["label"]
    assert answer["guesses"][0]["probability"] == pytest.approx(expected["probability"], abs=0.02)
    weights = out / "model.fp16.bin"
    weights.write_bytes(weights.read_bytes()[:-4])
    broken = subprocess.run([sys.executable, "-I", "classify.py", str(image)], cwd=out, capture_output=True, text=True)
    assert broken.returncode == 1
    assert "cannot load the model" in broken.stderr


@pytest.mark.slow
def test_a_changed_ncnn_file_fails_every_reader(ncnn_run, cli, tmp_path):
    run = shutil.copytree(ncnn_run, tmp_path / "run")
    path = run / "export/ncnn/model.bin"
    content = bytearray(path.read_bytes())
    content[-2] ^= 0x40
    path.write_bytes(bytes(content))
    assert cli("validate", run).exit_code == 1
    gated = cli("gate", run, "--max-size-mb", 100)
    assert gated.exit_code == 1
    assert "ncnn/model.bin (changed)" in gated.stdout + gated.stderr


@pytest.mark.slow
def test_a_student_that_ncnn_cannot_hold_fails_before_training(cli, tiny, tmp_path):
    result = cli(*tiny(student="test_vit", img_size=160), "--format", "ncnn", "--out", tmp_path / "run")
    assert result.exit_code == 2, result.stderr
    assert "ncnn has no layer" in result.stderr
    assert not (tmp_path / "run").exists()


def test_compare_reads_a_param_file(cli, param_path, onnx_path, photos, tmp_path, labels):
    images = tmp_path / "images"
    for name, source in zip(labels, sorted((photos / "test").iterdir()), strict=False):
        shutil.copytree(source, images / name)
    alike = cli("compare", param_path, onnx_path, "--data", images, "--json")
    found = json.loads(alike.stdout)
    assert alike.exit_code == 0, alike.stderr
    assert {"ncnn", "ncnn-device"} <= set(found["parities"])
    bare = tmp_path / "bare.param"
    for suffix in (".param", ".bin"):
        shutil.copy(param_path.with_suffix(suffix), bare.with_suffix(suffix))
    without = cli("compare", bare, onnx_path, "--data", images)
    assert (without.exit_code, "Pass --preprocess FILE" in without.stderr) == (2, True)
    content = bytearray(bare.with_suffix(".bin").read_bytes())
    content[len(content) // 2 + 3 : len(content) // 2 + 4000 : 4] = b"\x40" * len(range(3, 4000, 4))
    bare.with_suffix(".bin").write_bytes(bytes(content))
    steps = tmp_path / "preprocess.json"
    steps.write_text(json.dumps(json.loads(param_path.with_suffix(".json").read_text())["preprocess"]))
    other = cli("compare", bare, onnx_path, "--data", images, "--preprocess", steps)
    assert other.exit_code != 0
