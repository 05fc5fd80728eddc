"""A run with LiteRT models: validated, gated, bundled, checked on the device, and compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcs_edge.gate.subject import load_subject
from tcs_edge.runs.manifest import read_manifest
from tcs_edge.utils.installed import is_installed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_installed("litert_torch"), reason="litert-torch is not installed: pip install 'tcs-edge[litert]'"
    ),
]


@pytest.fixture(scope="session")
def litert_run(cli, tiny, tmp_path_factory) -> Path:
    """Finished run with LiteRT models in two precisions. Read only."""
    run = tmp_path_factory.mktemp("litert") / "run"
    result = cli(*tiny(), "--format", "litert", "--precision", "fp16", "--out", run)
    assert result.exit_code == 0, result.stderr
    return run


def test_every_litert_model_is_validated_timed_and_recorded(litert_run):
    manifest = read_manifest(litert_run)
    assert set(manifest.parity) >= {"litert", "litert-fp16"}
    assert not any(name.startswith("litert") and name.endswith("-device") for name in manifest.parity)
    assert set(manifest.latency_here.runtimes) >= {"litert", "litert-fp16"}
    assert {"ai-edge-litert", "litert-torch"} <= set(manifest.versions)
    names = {check["name"] for check in json.loads((litert_run / "reports/validation.json").read_text())["checks"]}
    assert {"litert: preprocessing", "litert-fp16: precision", "litert: largest difference"} <= names
    models = {record.path: record for record in manifest.artifacts if record.format == "litert"}
    assert set(models) == {"export/litert/model.tflite", "export/litert/model.fp16.tflite"}
    folder = litert_run / "export/litert"
    whole = sum((folder / f"model.fp16{suffix}").stat().st_size for suffix in (".tflite", ".json"))
    assert models["export/litert/model.fp16.tflite"].bytes == whole
    subject = load_subject(litert_run)
    sizes = {measure.of: measure.value for measure in subject.measures if measure.quantity == "size_mb"}
    assert sizes["litert/model.fp16.tflite"] == pytest.approx(whole / 1e6)
    assert {"accuracy/litert", "drop/litert-fp16"} <= {measure.key for measure in subject.measures}
    assert all(requirement.kept for requirement in subject.requirements)
    assert "LiteRT, fp16" in (litert_run / "reports/report.html").read_text()


def test_a_bundle_for_litert_checks_itself_and_predicts(litert_run, cli, photos, tmp_path):
    out = tmp_path / "bundle"
    result = cli("bundle", litert_run, "--runtime", "litert", "--precision", "fp16", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "ai-edge-litert==" in (out / "requirements.txt").read_text()
    checked = subprocess.run(
        [sys.executable, "-I", "selfcheck.py", "--seconds", "0.1"], cwd=out, capture_output=True, text=True, timeout=300
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    document = json.loads((out / "selfcheck.json").read_text())
    (row,) = document["rows"]
    assert (row["runtime"], row["precision"], row["arithmetic"]) == ("litert", "fp16", "f32")
    assert set(document["model_sha256"]) <= load_subject(litert_run).hashes
    image = next((photos / "test").rglob("*.png"))
    command = [sys.executable, "-I", "classify.py", str(image)]
    said = subprocess.run([*command, "--json"], cwd=out, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr
    (answer,) = json.loads(said.stdout)["predictions"]
    told = cli("predict", litert_run, image, "--json")
    expected = json.loads(told.stdout)["predictions"][0]["guesses"][0]
    assert answer["guesses"][0]["label"] == expected["label"]
    assert answer["guesses"][0]["probability"] == pytest.approx(expected["probability"], abs=0.02)
    model = out / "model.fp16.tflite"
    model.write_bytes(model.read_bytes()[:-4])
    broken = subprocess.run(command, cwd=out, capture_output=True, text=True)
    assert broken.returncode == 1
    assert "cannot load the model" in broken.stderr


def test_a_changed_litert_file_fails_every_reader(litert_run, cli, tmp_path):
    run = shutil.copytree(litert_run, tmp_path / "run")
    path = run / "export/litert/model.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 + 3] ^= 0x40
    path.write_bytes(bytes(content))
    assert cli("validate", run).exit_code == 1
    gated = cli("gate", run, "--max-size-mb", 100)
    assert gated.exit_code == 1
    assert "litert/model.tflite (changed)" in gated.stdout + gated.stderr


def test_a_student_that_litert_cannot_hold_fails_before_training(cli, tiny, tmp_path):
    """test_vit resizes its position embedding in every pass."""
    result = cli(*tiny(student="test_vit", img_size=160), "--format", "litert", "--out", tmp_path / "run")
    assert result.exit_code == 2, result.stderr
    assert "Lowering not found: aten._upsample_bicubic2d_aa" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_compare_reads_a_tflite_file(litert_run, cli, photos, tmp_path):
    path, source = litert_run / "export/litert/model.tflite", litert_run / "export/model.onnx"
    alike = cli("compare", path, source, "--data", photos, "--json")
    assert alike.exit_code == 0, alike.stderr
    assert set(json.loads(alike.stdout)["parities"]) == {"litert"}
    bare = shutil.copy(path, tmp_path / "bare.tflite")
    without = cli("compare", bare, source, "--data", photos)
    assert (without.exit_code, "Pass --preprocess FILE" in without.stderr) == (2, True)
