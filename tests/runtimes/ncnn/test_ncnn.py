"""ncnn: equal logits, three files or none, and one line for every model that it cannot run."""

from __future__ import annotations

import copy
import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from tcs_edge.errors import DataError, MissingError, RequirementMissed, TcsEdgeError, UsageError
from tcs_edge.export.onnx import export_onnx
from tcs_edge.runtimes.beside import read_metadata_beside
from tcs_edge.runtimes.metadata import KEYS, read_onnx_metadata
from tcs_edge.runtimes.ncnn import RUNTIME, NcnnRunner, export, library
from tcs_edge.runtimes.ncnn.export import export_ncnn
from tcs_edge.runtimes.ncnn_file import read_param, read_weights

SUFFIXES = (".param", ".bin", ".json")


@pytest.fixture
def own(param_path, tmp_path) -> Path:
    """Copy of the model that a test may damage."""
    for suffix in SUFFIXES:
        shutil.copy(param_path.with_suffix(suffix), tmp_path / f"model{suffix}")
    return tmp_path / "model.param"


@pytest.fixture
def fake_pnnx(tmp_path, monkeypatch):
    """fake_pnnx("exit 1"): put a shell script in the place of pnnx."""

    def make(script: str) -> None:
        program = tmp_path / "pnnx"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(export, "pnnx_program", lambda: program)

    return make


def logits_of(model, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


def test_the_export_computes_the_logits_of_the_model_and_has_its_metadata(param_path, model, labels, onnx_path):
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    expected = logits_of(model, images)
    with NcnnRunner(param_path) as runner:
        assert (runner.name, runner.precision, runner.labels) == ("ncnn", "f32", labels)
        assert "fp16_storage off" in runner.settings
        assert "winograd_convolution on" in runner.settings
        np.testing.assert_allclose(runner.run(images), expected, atol=1e-5)
    with RUNTIME.open_as_deployed(param_path, 1) as deployed:
        assert deployed.name == "ncnn-device"
        assert deployed.precision == deployed.arithmetic == library.device_arithmetic()
        assert "fp16_storage on" in deployed.settings
        np.testing.assert_allclose(deployed.run(images), expected, atol=1e-2)
    stored, source = read_metadata_beside(param_path), read_onnx_metadata(onnx_path)
    assert {key: stored[key] for key in KEYS if key != "versions"} == {
        key: source[key] for key in KEYS if key != "versions"
    }
    assert {"ncnn", "pnnx", "torch"} <= set(json.loads(stored["versions"]))


def test_float16_weights_halve_the_file_and_two_exports_are_equal(param_path, onnx_path, model, tmp_path):
    half = [export_ncnn(onnx_path, tmp_path / name / "model.fp16.param", "fp16") for name in ("a", "b")]
    assert [one.read_bytes() for one in half[0]] == [other.read_bytes() for other in half[1]]
    sizes = [path.with_suffix(".bin").stat().st_size for path in (half[0][0], param_path)]
    assert 0.45 < sizes[0] / sizes[1] < 0.6
    images = np.zeros((1, 3, 32, 32), dtype=np.float32)
    with NcnnRunner(half[0][0]) as runner:
        assert (runner.name, runner.precision) == ("ncnn-fp16", "f16-weights")
        np.testing.assert_allclose(runner.run(images), logits_of(model, images), atol=1e-2)


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("kill -SEGV $$", UsageError, "crashed (signal 11)"),
        ("echo 'no such operator' >&2; exit 3", UsageError, "no such operator"),
        ("true", UsageError, "code 0"),
        ("exec sleep 60", UsageError, "took more than"),
        ("cp {bin} model.ncnn.bin; truncate -s -64 model.ncnn.bin; cp {param} model.ncnn.param", RequirementMissed, ""),
        ("cp {bin} model.ncnn.bin; sed s/InnerProduct/aten::mm/ {param} > model.ncnn.param", UsageError, "aten::mm"),
    ],
)
def test_a_failed_conversion_is_one_line_and_leaves_the_earlier_files(
    own, onnx_path, fake_pnnx, monkeypatch, script, kind, message
):
    monkeypatch.setattr(export, "PNNX_SECONDS", 0.5)
    before = {path.name: path.read_bytes() for path in own.parent.iterdir()}
    fake_pnnx(script.format(bin=own.with_suffix(".bin"), param=own))
    with pytest.raises(kind, match=r".") as caught:
        export_ncnn(onnx_path, own)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in own.parent.iterdir() if path.name != "pnnx"} == before
    with pytest.raises(kind):
        export_ncnn(onnx_path, own.parent / "new" / "model.param")
    assert not (own.parent / "new").exists() or not list((own.parent / "new").iterdir())


def drop_json_label(path: Path) -> None:
    document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    del document["labels"][0]
    path.with_suffix(".json").write_text(json.dumps(document), encoding="utf-8")


def state_fp16(path: Path) -> None:
    document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    path.with_suffix(".json").write_text(json.dumps(document | {"precision": "fp16"}), encoding="utf-8")


def edit(suffix: str, change):
    def damage(path: Path) -> None:
        file = path.with_suffix(suffix)
        file.write_bytes(change(file.read_bytes()))

    return damage


def int8_table(content: bytes) -> bytes:
    """State int8 scales for the first convolution, which the .bin does not have."""
    first = next(line for line in content.splitlines() if line.startswith(b"Convolution"))
    return content.replace(first, first + b" 8=2", 1)


DAMAGES = {
    "truncated .bin": (edit(".bin", lambda content: content[:-4]), "ends within layer"),
    "bytes behind the weights": (
        edit(".bin", lambda content: content + b"0000"),
        "4 bytes of model.bin belong to no layer",
    ),
    "empty .bin": (edit(".bin", lambda _: b""), "ends within layer"),
    "no .bin": (lambda path: path.with_suffix(".bin").unlink(), "model.bin is missing beside it"),
    "empty .param": (edit(".param", lambda _: b""), "not an ncnn .param file"),
    "binary .param": (edit(".param", lambda _: b"\xff\xfe\x00"), "not text"),
    "truncated .param": (edit(".param", lambda content: content[: len(content) // 2]), "layers"),
    "unknown layer": (edit(".param", lambda content: content.replace(b"\nInnerProduct", b"\nTensor.mm")), "Tensor.mm"),
    "int8 table": (edit(".param", int8_table), "model.bin does not fit"),
    "kernel of another size": (edit(".param", lambda content: content.replace(b" 1=3 ", b" 1=7 ", 1)), "not possible"),
    "not a number": (edit(".param", lambda content: content.replace(b" 0=", b" 0=x", 1)), "is not a number"),
    "other labels": (drop_json_label, "names 3 classes, but has 4 outputs"),
    "other precision": (state_fp16, "states fp16, but its weights are fp32"),
    "empty .json": (edit(".json", lambda _: b""), "model.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_one_line(own, damage):
    harm, message = DAMAGES[damage]
    harm(own)
    with pytest.raises(DataError) as caught:
        NcnnRunner(own)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_cut_of_the_files_is_refused(own):
    text, weights = own.read_text(encoding="utf-8"), own.with_suffix(".bin").read_bytes()
    layers = read_param(own)
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(weights), 40):
        own.with_suffix(".bin").write_bytes(weights[:cut])
        assert read_weights(own.with_suffix(".bin"), layers).problem
    lines = text.splitlines(keepends=True)
    for count in range(len(lines)):
        own.write_text("".join(lines[:count]), encoding="utf-8")
        with pytest.raises(TcsEdgeError):
            read_param(own)


def test_a_crash_of_ncnn_ends_another_process(own, monkeypatch, tmp_path):
    crashing = tmp_path / "crash.py"
    crashing.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", encoding="utf-8")
    monkeypatch.setattr(library, "PROBE", crashing)
    with pytest.raises(DataError, match=r"it crashed \(signal 11\)"):
        NcnnRunner(own)


@pytest.mark.parametrize("missing", ["ncnn", "pnnx"])
def test_a_missing_package_names_the_extra(cli, monkeypatch, photos, missing):
    real = library.is_installed
    monkeypatch.setattr(library, "is_installed", lambda name: name != missing and real(name))
    with pytest.raises(MissingError, match=f"package {missing} is not installed"):
        library.require_ncnn()
    result = cli("compress", "--target", "raspberrypi4", "--data", photos, "--format", "ncnn", "--dry-run")
    assert result.exit_code == 4
    assert "pip install 'tcs-edge[ncnn]'" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_unknown_format_is_an_error_with_the_known_ones(cli):
    result = cli("compress", "--target", "raspberrypi4", "--format", "ncn")
    assert result.exit_code == 2
    assert "ncnn" in result.stderr


def test_an_onnx_file_with_a_dynamic_batch_becomes_a_batch_of_one(model, labels, preprocess, tmp_path):
    source = export_onnx(
        model, tmp_path / "model.onnx", 32, labels=labels, preprocess=preprocess, dynamic_batch=True
    )  # fmt: skip
    images = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with NcnnRunner(export_ncnn(source, tmp_path / "ncnn" / "model.param")[0]) as runner:
        np.testing.assert_allclose(runner.run(images), logits_of(model, images), atol=1e-5)


def test_weights_beyond_float16_fail_the_validation_instead_of_passing_unseen(model, labels, preprocess, tmp_path):
    huge = copy.deepcopy(model)
    with torch.no_grad():
        huge.classifier.weight[0, 0] = 1e6
    source = export_onnx(huge, tmp_path / "model.onnx", 32, labels=labels, preprocess=preprocess)
    with NcnnRunner(export_ncnn(source, tmp_path / "model.fp16.param", "fp16")[0]) as runner:
        logits = runner.run(np.ones((1, 3, 32, 32), dtype=np.float32))
    assert not np.isfinite(logits).all()


def test_the_weights_of_a_normalize_layer_are_counted(tmp_path):
    path = tmp_path / "model.param"
    path.write_text(
        "7767517\n2 2\nInput in0 0 1 in0\nNormalize n 1 1 in0 out0 0=0 1=0 2=1e-12 3=4 4=1\n", encoding="utf-8"
    )
    path.with_suffix(".bin").write_bytes(bytes(16))
    found = read_weights(path.with_suffix(".bin"), read_param(path))
    assert (found.problem, found.elements.total()) == ("", 4)
