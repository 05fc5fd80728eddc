"""Tests of whole runs with every precision, and with an int8 that loses its accuracy."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from tcs_edge.pipeline import run as pipeline
from tcs_edge.runtimes.onnx_file import default_opset
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.specs.target import int8_outlook, list_targets, load_target, openvino_arithmetic
from tcs_edge.stages import prepare as preparation
from tcs_edge.stages.precisions import int8_schemes, warn_of_large_int8
from tcs_edge.validation import checks

EXPORTS = {
    "model.onnx", "model.fp16.onnx", "model.int8.onnx", "model.pixels.onnx", "model.fp16.pixels.onnx",
    "model.int8.pixels.onnx", "openvino/model.xml", "openvino/model.bin", "openvino/model.fp16.xml",
    "openvino/model.fp16.bin", "openvino/model.int8.xml", "openvino/model.int8.bin", "labels.txt", "preprocess.json",
    "confidence.json",
}  # fmt: skip
ALL = ("--precision", "int8", "--precision", "fp16", "--allow-unshown-int8")


@pytest.fixture(scope="module")
def result(cli, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("precisions") / "run"
    # Trained long enough that few predictions are close; int8 may change one in ten.
    return cli(
        *tiny(epochs=12),
        *ALL,
        "--embed-preprocess",
        "--dynamic-batch",
        "--max-accuracy-drop",
        "0.1",
        "--out",
        out,
        "--json",
    )


def failed_checks(run):
    checks = json.loads((Path(run) / "reports" / "validation.json").read_text(encoding="utf-8"))["checks"]
    return [check for check in checks if not check["passed"]]


@pytest.fixture(scope="module")
def document(result):
    found = json.loads(result.stdout)
    assert result.exit_code == 0, failed_checks(found["run"])
    return found


@pytest.fixture(scope="module")
def run(document, tmp_path_factory):
    return Path(document["run"])


@pytest.mark.parametrize(("int8_bytes", "warned"), [(None, False), (1_700_000, False), (4_700_000, True)])
def test_int8_file_larger_than_float16_gives_a_warning(tmp_path, recorder, int8_bytes, warned):
    (tmp_path / "model.onnx").write_bytes(bytes(8_000_000))
    if int8_bytes:
        (tmp_path / "model.int8.onnx").write_bytes(bytes(int8_bytes))
    warn_of_large_int8(tmp_path)
    assert [text.split(". ")[0] for text in recorder.warned] == [
        "model.int8.onnx: 4.7 MB, larger than with float16 weights (about 4.0 MB)"
    ] * warned


def exported(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def words_of(page):
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_precision_is_exported_and_listed(document, run):
    assert exported(run / "export") == EXPORTS
    listed = {(a["path"], a["format"], a["precision"], a["input"]): a["bytes"] for a in document["artifacts"]}
    assert len(listed) == 9
    assert ("export/model.int8.pixels.onnx", "onnx", "int8", "picture") in listed
    xml = ("export/openvino/model.int8.xml", "openvino", "int8", "image")
    assert listed[xml] == sum(
        (run / "export/openvino" / f"model.int8.{kind}").stat().st_size for kind in ("xml", "bin")
    )


@pytest.mark.slow
def test_every_file_is_validated_at_its_own_precision(document):
    parity = {name: record["precision"] for name, record in document["parity"].items()}
    assert parity["onnxruntime"] == parity["openvino"] == "f32"
    assert parity["onnxruntime-fp16"] == parity["openvino-fp16"] == "f16-weights"
    assert parity["onnxruntime-int8"] == parity["openvino-int8"] == "int8"
    assert set(document["accuracy"]) == set(parity) | {"pytorch"}


@pytest.mark.slow
def test_validation_has_checks_of_every_precision(run):
    names = {check["name"] for check in json.loads((run / "reports/validation.json").read_text())["checks"]}
    assert {
        "onnxruntime-int8: released", "openvino-int8: released", "onnxruntime-int8: signal to noise",
        "onnxruntime-int8-pixels: odd sizes", "onnxruntime-pixels: same class", "onnx-int8: opset",
        "onnx-fp16: precision", "openvino-int8: precision", "onnxruntime: batch size does not matter",
    } <= names  # fmt: skip
    assert not any(name.startswith("onnxruntime-int8: accuracy unchanged") for name in names)


@pytest.mark.slow
def test_int8_report_has_cost_of_every_layer(run):
    report = json.loads((run / "reports/int8.json").read_text())
    assert [made["format"] for made in report["formats"]] == ["onnx", "openvino"]
    assert all(made["released"] for made in report["formats"])
    assert {"name", "kind", "noise"} == set(report["layers"][0])
    assert report["calibration_images"] == 72
    assert "int8 dot product" in report["outlook"]
    words = words_of(run / "reports/report.html")
    assert "ONNX: released; per-channel noise" in words
    assert all(layer["name"] in words for layer in report["layers"])


@pytest.mark.slow
def test_latency_of_every_file_is_in_the_manifest(document):
    here = document["latency_here"]
    assert {"pytorch", "onnxruntime-int8", "openvino-fp16"} <= set(here["runtimes"])
    assert here["threads"] == 1


@pytest.mark.slow
def test_dynamic_batch_runs_several_images_at_once(run):
    for name in ("model.onnx", "model.int8.onnx", "model.fp16.onnx"):
        assert onnx.load(run / "export" / name).graph.input[0].type.tensor_type.shape.dim[0].dim_param
        with OrtRunner(run / "export" / name) as runner:
            images = np.random.default_rng(0).standard_normal((3, 3, 64, 64)).astype(np.float32)
            together, alone = runner.run(images), np.concatenate([runner.run(image[None]) for image in images])
            np.testing.assert_allclose(together, alone, atol=1e-4 * np.abs(alone).max())


@pytest.mark.slow
def test_predict_uses_the_given_precision(cli, run, photos):
    image = next((photos / "test" / "red").iterdir())
    result = cli("predict", run, image, "--precision", "int8")
    assert result.exit_code == 0, result.stderr
    assert "red" in result.stdout
    wrong = cli("predict", run, image, "--precision", "int4")
    assert wrong.exit_code == 2
    assert "unknown --precision 'int4'" in wrong.stderr


@pytest.mark.slow
def test_validate_passes_the_run_and_fails_it_without_an_int8_file(cli, run, tmp_path):
    assert cli("validate", run).exit_code == 0
    spoilt = shutil.copytree(run, tmp_path / "run")
    (spoilt / "export" / "model.int8.onnx").unlink()
    again = cli("validate", spoilt)
    assert again.exit_code == 1
    assert "model.int8.onnx (missing)" in again.stderr


@pytest.mark.slow
def test_int8_that_loses_accuracy_fails_the_run_and_has_no_file(cli, tiny, tmp_path, monkeypatch):
    impossible = checks.Tolerance(1e-9, 1.0, 1.0, None, max_accuracy_drop=0.0, alpha=None, min_sqnr_db=300.0)
    monkeypatch.setitem(checks.TOLERANCES, "int8", impossible)
    config = tmp_path / "quick.toml"
    config.write_text("[int8]\nrounds = 0\nsensitivity_images = 1\n")
    result = cli(*tiny(epochs=1), "--precision", "int8", "--config", config, "--out", tmp_path / "run")
    assert result.exit_code == 1, result.stderr
    assert "FAILED onnxruntime-int8: released" in result.stdout
    assert "most sensitive layers:" in result.stdout
    words = words_of(tmp_path / "run/reports/report.html")
    assert "ONNX: not released, every round failed" in words
    assert json.loads((tmp_path / "run/reports/int8.json").read_text())["layers"][0]["name"] in words
    assert not any("int8" in name for name in exported(tmp_path / "run" / "export.REJECTED"))
    assert not (tmp_path / "run" / "export").exists()


@pytest.mark.slow
def test_int8_on_few_images_is_released_on_request_without_training_again(cli, tiny, tmp_path, monkeypatch):
    out = tmp_path / "run"
    failed = cli(*tiny(epochs=12), "--precision", "int8", "--max-accuracy-drop", "0.05", "--out", out)
    assert failed.exit_code == 1
    (line,) = [line for line in failed.stdout.splitlines() if line.startswith("FAILED onnxruntime-int8: released")]
    assert "the limit is not shown: lost " in line
    assert "24 validation images" in line
    assert line.endswith(
        "Pass --allow-unshown-int8, a larger --max-accuracy-drop, or use more validation images (at least 45)"
    )
    monkeypatch.setattr(pipeline, "train_student", None)
    again = cli("compress", "--resume", out, "--allow-unshown-int8")
    assert again.exit_code == 0, again.stderr
    assert "limit 5 not shown, released on request" in again.stdout
    assert "not shown, released on request" in (out / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
def test_run_that_failed_on_int8_resumes_without_int8_and_training(cli, tiny, tmp_path, monkeypatch):
    impossible = checks.Tolerance(1e-9, 1.0, 1.0, None, max_accuracy_drop=0.0, alpha=None, min_sqnr_db=300.0)
    config, out = tmp_path / "quick.toml", tmp_path / "my run"
    config.write_text("[int8]\nrounds = 0\nsensitivity_images = 1\n")
    with monkeypatch.context() as patched:
        patched.setitem(checks.TOLERANCES, "int8", impossible)
        failed = cli(*tiny(epochs=1), "--precision", "int8", "--precision", "fp16", "--config", config, "--out", out)
    assert failed.exit_code == 1, failed.stderr
    weights = (out / "checkpoints/deployed.safetensors").read_bytes()
    monkeypatch.setattr(pipeline, "train_student", None)  # training again would call it and fail

    same = cli("compress", "--resume", out)
    assert (same.exit_code, len(same.stderr.splitlines())) == (2, 1)
    assert "--precision fp32" in same.stderr
    assert (out / "export.REJECTED").is_dir(), "a failed command changes nothing"
    retrained = cli("compress", "--resume", out, "--epochs", "3", "--precision", "fp32")
    assert retrained.exit_code == 2
    assert "--epochs" in retrained.stderr

    advice = next(line for line in failed.stdout.splitlines() if line.startswith("only int8 failed"))
    again = cli(*shlex.split(advice.split("tcs-edge ")[1].split(", or")[0]))
    assert again.exit_code == 0, again.stderr
    assert exported(out / "export") == {
        "model.onnx", "openvino/model.xml", "openvino/model.bin", "labels.txt", "preprocess.json", "confidence.json",
    }  # fmt: skip
    assert not (out / "export.REJECTED").exists()
    assert not (out / "reports/int8.json").exists()
    assert (out / "checkpoints/deployed.safetensors").read_bytes() == weights
    assert cli("validate", out).exit_code == 0
    assert 'precision = [\n    "fp32",\n]' in (out / "config.resolved.toml").read_text()
    assert "nothing to resume" in cli("compress", "--resume", out, "--precision", "fp16").stderr


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
def test_files_of_an_interrupted_export_are_not_released(cli, tiny, tmp_path, monkeypatch):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "validate_exports", stop)
        assert cli(*tiny(epochs=1), "--precision", "fp16", "--out", out).exit_code == 130
    assert (out / "export.unvalidated/model.fp16.onnx").exists()
    again = cli("compress", "--resume", out, "--precision", "fp32")
    assert again.exit_code == 0, again.stderr
    assert not any("fp16" in name for name in exported(out / "export"))


@pytest.mark.slow
def test_run_with_given_opset_and_arithmetic_of_target(cli, tiny, tmp_path):
    options = ("--opset", "20", "--precision", "fp16", "--embed-preprocess")
    result = cli(*tiny(target="apple-m"), *options, "--out", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.stderr
    for name in ("model.onnx", "model.fp16.onnx", "model.pixels.onnx"):
        assert default_opset(onnx.load(tmp_path / "run/export" / name)) == 20
    parity = {name: record["precision"] for name, record in json.loads(result.stdout)["parity"].items()}
    assert parity["openvino-f16"] == parity["openvino-fp16-f16"] == "f16"
    assert not any(
        "f16" in name for name in json.loads(result.stdout)["latency_here"]["runtimes"] if "fp16" not in name
    )
    again = cli("validate", tmp_path / "run", "--json")
    assert again.exit_code == 0, again.stderr
    assert "openvino-f16: finite logits" in {check["name"] for check in json.loads(again.stdout)["checks"]}


@pytest.mark.parametrize("name", list_targets())
def test_openvino_computes_in_float16_on_arm_with_float16(name):
    target = load_target(name).model_dump(mode="json")
    computes_in_f16 = name in ("apple-m", "raspberrypi", "raspberrypi5", "jetson-orin-nano")
    assert openvino_arithmetic(target) == ("f16" if computes_in_f16 else "f32")


def test_openvino_computes_in_bfloat16_with_matrix_units():
    target = load_target("x86-avx512").model_dump(mode="json")
    assert openvino_arithmetic(target | {"cpu": target["cpu"] | {"amx": True}}) == "bf16"
    assert openvino_arithmetic({}) == "f32"


@pytest.mark.parametrize(("opset", "message"), [("22", "the target reads 21 at most"), ("13", "writes 18 to 24")])
def test_unsupported_opset_fails_before_images_are_read(cli, tiny, tmp_path, monkeypatch, opset, message):
    monkeypatch.setattr(preparation, "load_images", None)
    result = cli(*tiny(), "--opset", opset, "--out", tmp_path / "run")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert message in result.stderr


def test_unknown_precision_is_wrong_usage(cli, tiny, tmp_path):
    result = cli(*tiny(), "--precision", "int4", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "precision" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", list_targets())
def test_int8_schemes_depend_on_processor(name):
    target = load_target(name)
    for scheme in int8_schemes(target):
        arm = target.cpu.isa.startswith("arm")
        assert scheme.signed_activations == arm
        assert scheme.seven_bit_weights == (not arm and not target.cpu.int8_dot_product)
    outlook = int8_outlook(target)
    assert ("has no int8 dot product" in outlook) == (not target.cpu.int8_dot_product)
    assert target.sources["precision"] in outlook
