"""Tests of the Python API: `from tcs_edge import compress, load, Gate`."""

from __future__ import annotations

import doctest
import inspect
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tcs_edge
from tcs_edge import Gate, compress, load
from tcs_edge.cli.compress import command as compress_command
from tcs_edge.cli.gate import command as gate_command
from tcs_edge.errors import DataError, ParityFailed, RequirementMissed, SpecError, TcsEdgeError, UnknownName, UsageError
from tcs_edge.gate.limits import GateLimits
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.training import TrainOptions

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "python.md"


@pytest.fixture
def project(finished, photos, tmp_path, monkeypatch):
    """Current folder with photos/ and runs/photos/, as in the docs."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "photos").symlink_to(photos)
    (tmp_path / "runs" / "photos").symlink_to(finished)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_public_names():
    assert tcs_edge.__all__ == ["Gate", "__version__", "compress", "load"]
    assert set(tcs_edge.__all__) <= set(dir(tcs_edge))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = tcs_edge.lode


@pytest.mark.parametrize("statement", ["import tcs_edge", "from tcs_edge import Gate, compress, load"])
def test_import_loads_no_heavy_package(statement):
    heavy = ("torch", "numpy", "onnx", "onnxruntime", "openvino", "timm", "typer", "rich")
    code = f"import sys; {statement}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_compress_has_every_option_of_the_command():
    arguments = set(inspect.signature(compress).parameters)
    assert set(CompressConfig.model_fields) <= arguments
    flags = set(inspect.signature(compress_command).parameters) - {"context"}
    assert flags - arguments - set(TrainOptions.model_fields) == {"dry_run", "json", "verbose"}


def test_gate_has_every_limit():
    arguments = set(inspect.signature(Gate).parameters)
    assert arguments == (set(GateLimits.model_fields) - {"change"}) | {"max_change", "allow_other_target"}


def test_every_flag_of_the_gate_command_has_an_argument():
    """Flags are limits, arguments of a call, or output formats of a `GateResult`."""
    flags = set(inspect.signature(gate_command).parameters) - {"context"}
    given = set(inspect.signature(Gate).parameters)
    called = set(inspect.signature(Gate.check).parameters) | {"update_baseline"}
    assert flags - given - called == {"json", "junit", "markdown"}
    assert set(inspect.signature(Gate.require).parameters) == set(inspect.signature(Gate.check).parameters)


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
def test_compress_load_and_gate_work_together(photos, tmp_path, capsys):
    package = logging.getLogger("tcs_edge")
    before = package.level, package.propagate, list(package.handlers)
    run = compress(
        photos, target="raspberrypi4", method="ce", student="lcnet_050", student_init="random", img_size=32, epochs=1,
        device="cpu", threads=1, workers=0, out=tmp_path / "run", quiet=True,
    )  # fmt: skip
    assert run.passed
    assert run.path == tmp_path / "run"
    assert capsys.readouterr() == ("", "")
    log = (run.path / "train.log").read_text(encoding="utf-8")
    assert "INFO images: photos" in log
    assert "INFO epoch 1 of 1: loss " in log
    assert (package.level, package.propagate, list(package.handlers)) == before
    assert load(run).classes == ("blue", "green", "red")
    assert Gate(max_size_mb=50).require(run).passed


def test_compress_raises_on_wrong_options(tmp_path):
    with pytest.raises(UsageError, match="target"):
        compress()
    with pytest.raises(UnknownName, match="raspberrypi4"):
        compress(target="raspberypi4", quiet=True)
    with pytest.raises(SpecError, match="epochs"):
        compress(target="raspberrypi4", epochs=0, quiet=True)
    with pytest.raises(SpecError, match="no such config file"):
        compress(config=tmp_path / "none.toml", quiet=True)


@pytest.mark.parametrize("artifact", ["model.onnx", "openvino/model.xml"])
def test_classifier_takes_paths_images_and_arrays_alike(finished, photos, artifact):
    path = photos / "test" / "red" / "01.png"
    image = Image.open(path)
    pixels = np.asarray(image.convert("RGB"))
    with load(finished, artifact) as model:
        answers = model.predict([path, str(path), image, pixels], top=3)
        assert [answer.guesses for answer in answers] == [answers[0].guesses] * 4
        assert [answer.image for answer in answers] == [str(path), str(path), "2", "3"]
        assert model.predict(pixels)[0].label == answers[0].label
        assert model.predict(np.stack([pixels, pixels]))[1].probability == answers[0].probability
        probabilities = model.probabilities([path, image])
        assert probabilities.shape == (2, 3)
        assert probabilities.sum(axis=1) == pytest.approx([1, 1])
        assert model.predict([]) == []
        assert artifact in repr(model)


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8, 3)), np.zeros((8, 8, 2), np.uint8), np.zeros(8, np.uint8), np.zeros((0, 8), np.uint8)]
)
def test_array_that_is_not_an_image_raises(finished, image):
    with pytest.raises(DataError, match="uint8"):
        load(finished).predict(image)


def test_classifier_takes_bytes_files_and_alpha_and_refuses_the_rest(finished, photos):
    path = photos / "test" / "red" / "01.png"
    pixels = np.asarray(Image.open(path).convert("RGB"))
    with load(finished) as model, path.open("rb") as file:
        opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        answers = model.predict([path, path.read_bytes(), file, opaque], top=2)
        assert [answer.guesses for answer in answers] == [answers[0].guesses] * 4
        for wrong in (None, 3, [3], b"", pixels / 255, pixels.transpose(2, 0, 1), photos, "none.jpg"):
            with pytest.raises(TcsEdgeError):
                model.predict(wrong)
        for top in (0, -1, 1.5, True, None):
            with pytest.raises(UsageError, match="top must be"):
                model.predict(path, top)
    with pytest.raises(UsageError, match="closed"):
        model.predict(path)


def test_load_raises_on_failed_or_missing_run_and_unknown_model(finished, make_run, tmp_path):
    with pytest.raises(ParityFailed, match="no validated model"):
        load(make_run(passed=False))
    with pytest.raises(DataError, match="no such run"):
        load(tmp_path / "none")
    with pytest.raises(UnknownName, match=r"openvino/model\.xml"):
        load(finished, "model.xml")


def test_gate_reports_missed_limits(make_run):
    small, large = make_run("small"), make_run("large", weights=2_000_000)
    gate = Gate(max_change={"size_mb": "5 %"}, baseline=small)
    assert gate.check(small).passed
    assert gate.check(large).verdict == "fail"
    with pytest.raises(RequirementMissed, match="worse than the baseline"):
        gate.require(large)
    assert Gate(max_size_mb={"warn": 0.5}).check(small).verdict == "warn"
    assert "max_size_mb" in repr(Gate(max_size_mb=1))


def test_gate_uses_latency_measured_on_device(make_run, selfcheck_of):
    run = make_run(latency_ms=10.0)
    gate = Gate(max_latency_ms=5)
    assert not gate.check(run).passed
    assert gate.check(run, selfcheck=selfcheck_of(run)).passed
    assert gate.require(str(run), selfcheck=str(selfcheck_of(run))).passed
    with pytest.raises(UsageError, match="another model"):
        gate.check(make_run("other", weights=5), selfcheck=selfcheck_of(run))


def test_baseline_is_written_only_for_validated_model(make_run, tmp_path):
    small, large = make_run("small"), make_run("large", weights=2_000_000)
    gate = Gate(max_change={"size_mb": "5 %"}, baseline=tmp_path / "gate.json")
    assert gate.update_baseline(small, tmp_path / "gate.json").passed
    assert not gate.check(large).passed
    assert gate.update_baseline(large, tmp_path / "gate.json").passed
    assert gate.check(large).passed
    assert not Gate(max_size_mb=1).update_baseline(large, tmp_path / "other.json").passed
    refused = gate.update_baseline(make_run("failed", passed=False), tmp_path / "none.json")
    assert not refused.passed
    assert not (tmp_path / "none.json").exists()


def test_gate_raises_on_invalid_limits(make_run, tmp_path):
    with pytest.raises(SpecError, match="max_size_mb"):
        Gate(max_size_mb=-1)
    with pytest.raises(SpecError, match="Did you mean size_mb"):
        Gate(max_change={"sise_mb": 1})
    with pytest.raises(UsageError, match="no limits"):
        Gate().check(make_run())


def test_gate_from_folder_reads_its_limits(make_run, tmp_path):
    (tmp_path / "tcs-edge.toml").write_text("[gate]\nmax_size_mb = 0.5\n")
    assert not Gate.from_folder(tmp_path).check(make_run()).passed


@pytest.mark.usefixtures("project")
@pytest.mark.slow
def test_examples_of_python_page_run():
    outcome = doctest.testfile(
        str(PAGE),
        module_relative=False,
        globs={"compress": compress, "load": load, "Gate": Gate},
        optionflags=doctest.ELLIPSIS,
    )
    assert outcome.attempted > 10
    assert outcome.failed == 0


@pytest.mark.usefixtures("project")
def test_examples_in_docstrings_run():
    import tcs_edge.api

    outcome = doctest.testmod(tcs_edge.api, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 5
    assert outcome.failed == 0
