"""Both int8 formats of the tiny model are released only if they hold the accuracy, or pass on request."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tcs_edge.data import Preprocess, Split
from tcs_edge.errors import DataError
from tcs_edge.export.onnx import export_onnx
from tcs_edge.quantization import quantize
from tcs_edge.quantization.accuracy_check import prepare_accuracy_check
from tcs_edge.quantization.qdq import Scheme, int8_layers
from tcs_edge.quantization.quantize import Quantizer
from tcs_edge.runtimes.onnx_file import read_onnx
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.openvino.export import read_openvino_metadata
from tcs_edge.specs.options import Int8Options

PREPROCESS = Preprocess(32)


def images(count: int, seed: int) -> Split:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Split(pixels, np.zeros(count, np.int64), tuple(f"p/{row}" for row in range(count)))


@pytest.fixture(scope="module")
def accuracy_check(onnx_path):
    """Accuracy check on images that the float model classifies correctly."""
    with OrtRunner(onnx_path) as reference:
        split = images(60, seed=1)
        rows = np.stack([PREPROCESS.normalize(image) for image in split.sources])
        right = Split(split.sources, reference.run(rows).argmax(axis=1), split.names)
        return prepare_accuracy_check(right, PREPROCESS, reference, max_accuracy_drop=0.01, seed=0)


def quantizer(onnx_path, accuracy_check, allow_unshown=True, **options) -> Quantizer:
    schemes = tuple(Scheme(per_channel, False, False) for per_channel in (True, False))
    small = Int8Options(**({"sensitivity_images": 4, "rounds": 6} | options))
    return Quantizer(onnx_path, images(12, seed=2), PREPROCESS, accuracy_check, schemes, small, 1, allow_unshown)


def test_int8_onnx_is_released_with_the_noise_of_both_schemes(onnx_path, accuracy_check, tmp_path):
    path = tmp_path / "model.int8.onnx"
    made = quantizer(onnx_path, accuracy_check).to_onnx(path)
    assert made.released
    assert set(made.schemes) == {"per-channel", "per-tensor"}
    assert path.stat().st_size < onnx_path.stat().st_size
    assert int8_layers(read_onnx(path))
    with OrtRunner(path) as runner:
        assert runner.precision == "int8"
    assert [item.name for item in tmp_path.iterdir()] == ["model.int8.onnx"]
    assert json.loads(json.dumps(made.to_json(), allow_nan=False))["released"] is True


@pytest.mark.parametrize(("noises", "chosen"), [
    ((1.0, 0.97, 0.95, 0.93, 0.92, 0.91, 0.91, 0.905), 0),
    ((1.0, 0.97, 0.89, 0.85, 0.9, 0.9, 0.81, 0.7), 7),
    ((1.0, 0.97, 0.89, 0.75, 0.9, 0.9, 0.81, 0.7), 3),
])  # fmt: skip
def test_a_variant_is_replaced_only_by_one_that_is_clearly_less_noisy(onnx_path, monkeypatch, noises, chosen):
    models = [read_onnx(onnx_path) for _ in noises]
    logits = {id(model): np.array([[1.0 - np.sqrt(noise)]]) for model, noise in zip(models, noises, strict=True)}
    plain, clipped, corrected = iter(models[::4]), iter(models[2::4]), iter(models[1::2])
    monkeypatch.setattr(quantize, "quantized", lambda *_: next(plain))
    monkeypatch.setattr(quantize, "with_clipped_ranges", lambda *_: next(clipped))
    monkeypatch.setattr(quantize, "correct_biases", lambda *_: next(corrected))
    monkeypatch.setattr(quantize, "input_means", lambda *_: {})
    monkeypatch.setattr(quantize, "run_model", lambda model, *_: logits.get(id(model), np.array([[1.0]])))
    schemes = tuple(Scheme(per_channel, False, False) for per_channel in (True, False))
    best, by_scheme = quantize.least_noisy(onnx_path, schemes, [np.zeros((1, 3, 8, 8), np.float32)], threads=1)
    assert best is models[chosen]
    assert by_scheme == pytest.approx({"per-channel": min(noises[:4]), "per-tensor": min(noises[4:])})


def test_a_loss_that_60_images_cannot_exclude_is_released_only_on_request(onnx_path, accuracy_check, tmp_path):
    path = tmp_path / "model.int8.onnx"
    made = quantizer(onnx_path, accuracy_check, allow_unshown=False).to_onnx(path)
    last = made.rounds[-1]
    assert (last.passed, last.held, made.released) == (True, False, False)
    assert not any(one.passed for one in made.rounds[:-1])
    assert last.drop_high > 0.01
    assert not accuracy_check.can_hold
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_int8_openvino_is_released_with_its_weights(onnx_path, xml_path, accuracy_check, tmp_path, labels, capfd):
    path = tmp_path / "openvino" / "model.int8.xml"
    made = quantizer(onnx_path, accuracy_check).to_openvino(path)
    assert made.released
    assert sorted(item.name for item in path.parent.iterdir()) == ["model.int8.bin", "model.int8.xml"]
    assert path.with_suffix(".bin").stat().st_size < 0.85 * xml_path.with_suffix(".bin").stat().st_size
    assert read_openvino_metadata(path)["precision"] == "int8"
    with OpenVinoRunner(path) as runner:
        assert (runner.name, runner.precision, runner.labels) == ("openvino-int8", "int8", labels)
    assert "nncf" not in "".join(capfd.readouterr()).lower()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("test_vit", "TRANSFORMER"), ("test_efficientnet", None)])
def test_nncf_gets_the_mode_for_transformers(name, kind, labels, preprocess, tmp_path, monkeypatch):
    import nncf
    import timm
    import torch

    seen, quantize = [], nncf.quantize

    def watched(*arguments, **options):
        seen.append(options["model_type"] and options["model_type"].name)
        return quantize(*arguments, **options)

    monkeypatch.setattr(nncf, "quantize", watched)
    torch.manual_seed(0)
    options = {"img_size": 32} if name == "test_vit" else {}
    model = timm.create_model(name, num_classes=len(labels), **options).eval()
    source = export_onnx(model, tmp_path / "model.onnx", 32, labels=labels, preprocess=preprocess)
    with OrtRunner(source) as reference:
        split = images(12, seed=1)
        accuracy_check = prepare_accuracy_check(split, PREPROCESS, reference, max_accuracy_drop=0.5, seed=0)
    quantizer(source, accuracy_check, rounds=0).to_openvino(tmp_path / "int8.xml")
    assert seen == [kind]


def test_a_failed_accuracy_check_writes_no_file_and_lists_the_checks(onnx_path, accuracy_check, tmp_path, monkeypatch):
    from tcs_edge.validation import checks

    impossible = checks.Tolerance(1e-9, 1.0, 1.0, None, max_accuracy_drop=0.0, alpha=None, min_sqnr_db=300.0)
    monkeypatch.setitem(checks.TOLERANCES, "int8", impossible)
    made = quantizer(onnx_path, accuracy_check, rounds=2).to_onnx(tmp_path / "model.int8.onnx")
    assert not made.released
    assert len(made.rounds) == 3
    assert "signal to noise" in made.rounds[-1].failures
    assert list(tmp_path.iterdir()) == []


def test_every_round_raises_the_signal_to_noise_ratio(onnx_path, accuracy_check, tmp_path, monkeypatch):
    from tcs_edge.validation import checks

    monkeypatch.setitem(
        checks.TOLERANCES, "int8", checks.Tolerance(1e-9, 1.0, 1.0, None, max_accuracy_drop=0.0, alpha=None)
    )
    rounds = quantizer(onnx_path, accuracy_check, rounds=4).to_onnx(tmp_path / "model.int8.onnx").rounds
    decibels = [made.sqnr_db for made in rounds]
    assert decibels[-1] > decibels[0] + 3


def test_no_validation_images_is_an_error(onnx_path):
    with OrtRunner(onnx_path) as reference, pytest.raises(DataError, match="validation images"):
        prepare_accuracy_check(images(3, 0).subset([]), PREPROCESS, reference, 0.01, 0)
