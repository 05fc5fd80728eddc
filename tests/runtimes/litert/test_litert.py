"""LiteRT: equal logits, two files or none, and one line for every model that it cannot run."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tcs_edge.errors import DataError, MissingError, RequirementMissed, UsageError
from tcs_edge.runtimes.beside import read_metadata_beside
from tcs_edge.runtimes.litert import LitertRunner, export, library
from tcs_edge.runtimes.litert.export import export_litert
from tcs_edge.runtimes.litert_file import read_litert
from tcs_edge.runtimes.metadata import KEYS, read_onnx_metadata
from tcs_edge.utils.installed import is_installed
from tcs_edge.utils.versions import OF_FORMATS

SUFFIXES = (".tflite", ".json")
runs = pytest.mark.skipif(not is_installed("ai_edge_litert"), reason="ai-edge-litert, the runtime, is not installed")
converts = pytest.mark.skipif(
    not is_installed("litert_torch"), reason="litert-torch is not installed: pip install 'tcs-edge[litert]'"
)


@pytest.fixture
def own(tflite_path, tmp_path) -> Path:
    """Copy of the tiny model that a test may damage."""
    for suffix in SUFFIXES:
        shutil.copy(tflite_path.with_suffix(suffix), tmp_path / f"model{suffix}")
    return tmp_path / "model.tflite"


def tiny() -> nn.Module:
    """The model in tiny.tflite."""
    layers = (nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for values in model.parameters():
            steps = torch.arange(values.numel(), dtype=torch.float32)
            values.copy_(steps.mul(7).remainder(11).sub(5).div(10).view_as(values))
    return model


def logits_of(model, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


def images_of(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, side, side)).astype(np.float32)


@runs
def test_the_runner_computes_the_logits_of_the_model(own, labels, capfd):
    with LitertRunner(own) as runner:
        assert (runner.name, runner.precision, runner.labels) == ("litert", "f32", labels)
        np.testing.assert_allclose(runner.run(images_of(3, 8)), logits_of(tiny(), images_of(3, 8)), atol=1e-6)
        with pytest.raises(DataError, match=r"takes float32 \(B, 3, 8, 8\)"):
            runner.run(images_of(1, 8).transpose(0, 2, 3, 1))
    assert capfd.readouterr().err == ""  # LiteRT prints a notice for the first model of a process


def drop_label(document: dict) -> None:
    del document["labels"][0]


METADATA = {
    "other labels": (drop_label, "names 3 classes, but has 4 outputs"),
    "other precision": (lambda document: document.update(precision="fp16"), "states fp16, but its weights are fp32"),
    "other size": (lambda document: document["preprocess"].update(img_size=16), "states another img_size"),
    "no labels": (lambda document: document.pop("labels"), "has no labels"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_that_does_not_fit_is_one_line(own, name):
    change, message = METADATA[name]
    document = json.loads(own.with_suffix(".json").read_text(encoding="utf-8"))
    change(document)
    own.with_suffix(".json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        LitertRunner(own)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@runs
def test_a_crash_of_litert_ends_another_process(own, monkeypatch, tmp_path):
    crashing = tmp_path / "crash.py"
    crashing.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", encoding="utf-8")
    monkeypatch.setattr(library, "PROBE", crashing)
    with pytest.raises(DataError, match=r"it crashed \(signal 11\)"):
        LitertRunner(own)


@runs
def test_a_graph_that_litert_refuses_is_one_line(own):
    content = bytearray(own.read_bytes())
    first = read_litert(own).constants
    axes = next(one for one in first if one.kind == "int32" and one.size == 16)  # of a transposition
    content[axes.start : axes.start + 16] = np.array([0, 1, 2, 9], np.int32).tobytes()
    own.write_bytes(bytes(content))
    with pytest.raises(DataError, match="cannot be run by LiteRT") as caught:
        LitertRunner(own)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", OF_FORMATS["litert"])
def test_a_missing_package_names_the_extra(cli, monkeypatch, photos, package):
    monkeypatch.setattr(library, "is_installed", lambda name: name != package.replace("-", "_"))
    with pytest.raises(MissingError, match=f"package {package} is not installed"):
        library.require_litert()
    result = cli("compress", "--target", "raspberrypi4", "--data", photos, "--format", "litert", "--dry-run")
    assert result.exit_code == 4
    assert "pip install 'tcs-edge[litert]'" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("program", "kind", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", UsageError, "crashed (signal 11)"),
        ("import sys; sys.exit('RuntimeError: no lowering')", UsageError, "RuntimeError: no lowering"),
        ("", UsageError, "code 0"),
        ("import time; time.sleep(60)", UsageError, "took more than"),
        ("open('model.tflite', 'wb').write(open({whole!r}, 'rb').read()[:-64])", RequirementMissed, "ends early"),
    ],
)
def test_a_failed_conversion_is_one_line_and_leaves_the_earlier_files(
    own, onnx_path, monkeypatch, tmp_path_factory, program, kind, message
):
    monkeypatch.setattr(library, "is_installed", lambda _: True)
    monkeypatch.setattr(export, "CONVERTER_SECONDS", 5)
    converter = tmp_path_factory.mktemp("converter") / "convert.py"
    converter.write_text(program.format(whole=str(own)), encoding="utf-8")
    monkeypatch.setattr(export, "CONVERTER", converter)
    before = {path.name: path.read_bytes() for path in own.parent.iterdir()}
    with pytest.raises(kind) as caught:
        export_litert(tiny(), onnx_path, own)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in own.parent.iterdir()} == before
    with pytest.raises(kind):
        export_litert(tiny(), onnx_path, own.parent / "new" / "model.tflite")
    assert not (own.parent / "new").exists()


@converts
@pytest.mark.slow
def test_an_export_computes_the_logits_of_the_model_and_has_its_metadata(model, onnx_path, labels, tmp_path):
    paths = [export_litert(model, onnx_path, tmp_path / name / "model.tflite") for name in ("a", "b")]
    assert [one.read_bytes() for one in paths[0]] == [other.read_bytes() for other in paths[1]]
    images = images_of(3, 32)
    with LitertRunner(paths[0][0]) as runner:
        assert (runner.name, runner.precision, runner.labels) == ("litert", "f32", labels)
        np.testing.assert_allclose(runner.run(images), logits_of(model, images), atol=1e-5)
    stored, source = read_metadata_beside(paths[0][0]), read_onnx_metadata(onnx_path)
    assert {key: stored[key] for key in KEYS if key != "versions"} == {
        key: source[key] for key in KEYS if key != "versions"
    }
    assert set(OF_FORMATS["litert"]) | {"torch"} <= set(json.loads(stored["versions"]))


@converts
@pytest.mark.slow
def test_float16_weights_halve_the_file(model, onnx_path, tmp_path):
    path, _ = export_litert(model, onnx_path, tmp_path / "model.fp16.tflite", "fp16")
    weights = sum(values.numel() for values in model.parameters())
    assert path.stat().st_size < 2.4 * weights
    images = images_of(2, 32)
    with LitertRunner(path) as runner:
        assert (runner.name, runner.precision) == ("litert-fp16", "f16-weights")
        np.testing.assert_allclose(runner.run(images), logits_of(model, images), atol=1e-2)


@converts
@pytest.mark.slow
def test_weights_beyond_float16_fail_the_validation_instead_of_passing_unseen(model, onnx_path, tmp_path):
    huge = copy.deepcopy(model)
    with torch.no_grad():
        huge.classifier.weight[0, 0] = 1e6
    with LitertRunner(export_litert(huge, onnx_path, tmp_path / "model.fp16.tflite", "fp16")[0]) as runner:
        logits = runner.run(np.ones((1, 3, 32, 32), dtype=np.float32))
    assert not np.isfinite(logits).all()
