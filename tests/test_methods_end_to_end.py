"""`compress` with every method: from images to a validated export, and a second validation from its files."""

import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from tcs_edge.errors import SpecError, UsageError
from tcs_edge.pipeline.run import _with_limit_checks, compress
from tcs_edge.runs.folder import RunFolder
from tcs_edge.runs.manifest import read_manifest
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.strict import validated
from tcs_edge.specs.target import Limits
from tcs_edge.stages.validate import revalidate

CASES = [("kd", False), ("dkd", True), ("simkd", False), ("simkd", True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty images of 48 px in each of two classes: reddish and bluish noise."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for label, channel in (("red", 0), ("blue", 2)):
        (root / label).mkdir()
        for number in range(20):
            pixels = rng.integers(0, 160, (48, 48, 3), np.uint8)
            pixels[..., channel] += 90
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def options(folder, teacher, cache):
    def make(**given):
        return CompressConfig(
            target="raspberrypi4", data=folder, teacher="timm/test_efficientnet", teacher_weights=teacher,
            teacher_img_size=64, student="lcnet_050", student_init="random", img_size=64, epochs=1,
            batch_size=8, threads=1, workers=0, device="cpu", cache_dir=cache, **given,
        )  # fmt: skip

    return make


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
@pytest.mark.parametrize(("method", "online"), CASES)
def test_every_method_ends_in_a_validated_export(options, tmp_path, method, online):
    run = compress(options(method=method, online_teacher=online), tmp_path / "run")
    assert run.manifest.verdict == "pass", run.validation.failures
    assert read_manifest(run.folder.root).options["method"] == method

    with safe_open(run.folder.deployed_weights, framework="pt") as stored:
        shapes = {name: stored.get_slice(name).get_shape() for name in stored.keys()}  # noqa: SIM118
    assert ("projector.0.weight" in shapes) == (method == "simkd")
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    learned = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(statistics))
    assert run.manifest.student.params_m * 1e6 == pytest.approx(learned)
    # The exported file has no part of the teacher, no targets and nothing unused.
    assert (run.folder.export / "model.onnx").stat().st_size < 4 * learned + 300_000
    assert not (run.folder.checkpoints / "last.safetensors").exists()

    again = revalidate(run.folder.root, None)
    assert again.validation.verdict == "pass"
    assert again.revoked is None


@pytest.mark.slow
def test_probe_exports_the_pretrained_student_untrained(options, tmp_path):
    pretrained = timm.create_model("lcnet_050", num_classes=0).state_dict()
    save_file(pretrained, tmp_path / "student.safetensors")
    given = options().replaced(method="probe", student_init=str(tmp_path / "student.safetensors"))
    run = compress(given, tmp_path / "run")
    assert run.manifest.verdict == "pass", run.validation.failures
    with safe_open(run.folder.deployed_weights, framework="pt") as stored:
        kept = [name for name in pretrained if f"0.{name}" in stored.keys()]  # noqa: SIM118
        assert kept
        for name in kept:
            torch.testing.assert_close(stored.get_tensor(f"0.{name}"), pretrained[name])
    assert (run.folder.root / "reports" / "report.html").is_file()


def test_limits_apply_to_the_deployed_model(tmp_path):
    folder = RunFolder(tmp_path)
    folder.unvalidated.mkdir()
    (folder.unvalidated / "openvino").mkdir()
    files = {
        "model.onnx": 1_500_000,
        "model.int8.onnx": 900_000,
        "model.pixels.onnx": 1_200_000,
        "labels.txt": 5_000_000,
    }
    openvino = {"openvino/model.xml": 700_000, "openvino/model.bin": 700_000}
    for name, size in (files | openvino).items():
        (folder.unvalidated / name).write_bytes(bytes(size))
    choice = SimpleNamespace(winner=SimpleNamespace(precision="fp32"))
    ready = SimpleNamespace(limits=Limits(max_size_mb=1.0, max_params_m=0.3), choice=choice)
    validation = _with_limit_checks(FakeValidation(), ready, folder, params_m=0.31)
    assert [(check.name, check.passed) for check in validation.checks] == [
        ("onnx-int8: size", True), ("onnx: size", False), ("onnx-pixels: size", False), ("openvino: size", False),
        ("student: parameters", False),
    ]  # fmt: skip
    wider = SimpleNamespace(limits=Limits(max_size_mb=1.5, max_params_m=0.31), choice=choice)
    assert all(check.passed for check in _with_limit_checks(FakeValidation(), wider, folder, params_m=0.31).checks)


@dataclass(frozen=True)
class FakeValidation:
    checks: tuple = ()


def test_too_large_maps_are_refused_before_the_teacher_runs(options, tmp_path, monkeypatch):
    monkeypatch.setattr("tcs_edge.stages.targets.MAX_MAPS_MB", 0.001)
    with pytest.raises(UsageError, match=r"maps of .* Pass --online-teacher"):
        compress(options(method="simkd"), tmp_path / "run")


@pytest.mark.parametrize("method", ["tcs", "ce"])
def test_an_online_teacher_is_refused_for_other_methods(method):
    with pytest.raises(SpecError, match=r"online_teacher: not available with method"):
        validated(CompressConfig, {"target": "x", "method": method, "online_teacher": True}, Path("options"))
