"""int8 that misses the accuracy limit by calibration holds it after training with simulated int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tcs_edge.data import ImageSet, Preprocess, Split
from tcs_edge.errors import DataError, TrainingDiverged
from tcs_edge.quantization.accuracy_check import prepare_accuracy_check
from tcs_edge.quantization.fallback import Round
from tcs_edge.quantization.quantize import Quantized, Quantizer
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.specs.target import load_target
from tcs_edge.stages import finetune_int8, precisions
from tcs_edge.stages.export_student import StudentExport
from tcs_edge.stages.finetune_int8 import retry_missed
from tcs_edge.stages.precisions import Int8Record, int8_losses, int8_schemes

SIZE, CLASSES = 32, ("a", "b", "c", "d")
TARGET = load_target("intel-n5105")  # its weights have seven bits, so that every machine computes the same
PREPROCESS = Preprocess(SIZE)
INT8 = {"rounds": 0, "calibration_images": 32, "sensitivity_images": 1, "finetune_epochs": 20}


def backbone() -> nn.Sequential:
    """A network whose second layer has weights far below the largest of their channel, which meets zeros alone."""
    torch.manual_seed(2)
    first, second = nn.Conv2d(3, 16, 3, stride=4, padding=1), nn.Conv2d(16, 16, 1)
    with torch.no_grad():
        second.weight.normal_(0, 0.05)
        second.bias.zero_()
        second.weight[:, 0] = 1.0
        first.weight[0] = 0
        first.bias[0] = 0
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def split(count: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.integers(0, 256, (count, 8, 8, 3)), np.ones((1, 4, 4, 1)))
    pixels = (0.7 * coarse + rng.integers(0, 77, (count, SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8)
    return Split(pixels, np.zeros(count, np.int64), tuple(f"{seed}/{row}" for row in range(count)))


def tensors(images: Split) -> torch.Tensor:
    return torch.stack([torch.from_numpy(PREPROCESS.normalize(image)) for image in images.sources])


@torch.no_grad()
def classifier(network: nn.Module, images: Split) -> nn.Module:
    """Return `network` with a classifier whose classes are about as frequent on `images`."""
    features = network(tensors(images))
    centered = features - features.mean(dim=0)
    axes = torch.pca_lowrank(centered, len(CLASSES))[2]
    head = nn.Linear(16, len(CLASSES))
    head.weight.copy_(torch.randn(4, 4) @ (axes.T / (centered @ axes).std(dim=0)[:, None]))
    head.bias.copy_(-features.mean(dim=0) @ head.weight.T)
    return nn.Sequential(network, head).eval()


@pytest.fixture(scope="module")
def student(resolved) -> StudentExport:
    """A student that is right on every image, so that each changed class is a loss."""
    parts = [split(count, seed) for seed, count in enumerate((512, 400, 8), start=1)]
    model = classifier(backbone(), parts[0])
    with torch.no_grad():
        parts = [Split(one.sources, model(tensors(one)).argmax(dim=1).numpy(), one.names) for one in parts]
    options = resolved(
        target="intel-n5105", lr=0.03, batch_size=32, augment="none", device="cpu", max_accuracy_drop=0.1, int8=INT8
    )
    return StudentExport(model, ImageSet("images", CLASSES, *parts, "0"), PREPROCESS, TARGET, options)


@pytest.fixture(scope="module")
def source(student, tmp_path_factory) -> Path:
    return student.to_onnx(tmp_path_factory.mktemp("source") / "model.onnx")


@pytest.fixture(scope="module")
def quantizer(student, source) -> Quantizer:
    images, options = student.images, student.options
    with OrtRunner(source) as reference:
        check = prepare_accuracy_check(images.val, PREPROCESS, reference, options.max_accuracy_drop, 0)
    calibration = images.train.subset(list(range(32)))
    return Quantizer(source, calibration, PREPROCESS, check, int8_schemes(TARGET), options.int8, 1)


@pytest.fixture(scope="module")
def calibrated(quantizer, tmp_path_factory) -> Quantized:
    return quantizer.to_onnx(tmp_path_factory.mktemp("calibrated") / "model.int8.onnx")


class Maker:
    """Makes the ONNX format, and keeps the quantizers."""

    def __init__(self, path: Path) -> None:
        self.path, self.by = path, []

    def __call__(self, by: Quantizer, kind: str) -> Quantized:
        assert kind == "onnx"
        self.by.append(by)
        return by.to_onnx(self.path)


@pytest.fixture
def make(tmp_path) -> Maker:
    return Maker(tmp_path / "model.int8.onnx")


def test_a_missed_limit_holds_after_training_with_simulated_int8(
    student, source, quantizer, calibrated, make, tmp_path, recorder, monkeypatch
):
    assert not calibrated.released
    assert calibrated.rounds[-1].drop > 0.12
    float_file, before = source.read_bytes(), {name: one.clone() for name, one in student.model.state_dict().items()}
    weights = tmp_path / "int8.safetensors"
    (made,) = retry_missed([calibrated], make, quantizer, student, weights)
    assert (made.released, made.finetuned_epochs, made.calibrated) == (True, 20, calibrated.rounds)
    assert made.rounds[-1].drop < 0.07
    assert make.path.is_file()
    # The float32 model is as before, and what int8 is compared with.
    assert source.read_bytes() == float_file
    assert all(torch.equal(one, before[name]) for name, one in student.model.state_dict().items())
    assert make.by[0].accuracy_check is quantizer.accuracy_check
    assert make.by[0].exact == source
    assert any("missed the limit by calibration, now 20 epochs" in line for line in recorder.said)

    # A resumed run trains no second time, and makes the same file.
    first = make.path.read_bytes()
    monkeypatch.setattr(finetune_int8, "finetune_for_int8", None)
    (again,) = retry_missed([calibrated], make, quantizer, student, weights)
    assert again.rounds == made.rounds
    assert make.path.read_bytes() == first


def test_training_for_int8_is_reproducible(student, quantizer):
    short = replace(student, options=student.options.replaced(int8=INT8 | {"finetune_epochs": 1}))
    once, twice = (
        finetune_int8.finetune_for_int8(
            short.model, short.images, PREPROCESS, quantizer.images, quantizer.schemes[0], short.options
        )
        for _ in range(2)
    )
    pairs = zip(once.state_dict().values(), twice.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert not torch.equal(once.state_dict()["0.0.weight"], student.model.state_dict()["0.0.weight"])


@pytest.mark.parametrize("reason", ["released", "no epochs", "too few images"])
def test_there_is_no_training_without_need_or_chance(student, quantizer, calibrated, make, tmp_path, reason):
    made = calibrated
    if reason == "released":
        made = replace(calibrated, rounds=(Round((), 1.0, 0.0, 0.01, 40.0, (), 0.1),))
    if reason == "no epochs":
        student = replace(student, options=student.options.replaced(int8=INT8 | {"finetune_epochs": 0}))
    if reason == "too few images":
        check = quantizer.accuracy_check
        few = replace(check, pixels=check.pixels[:8], labels=check.labels[:8], expected=check.expected[:8])
        quantizer = replace(quantizer, accuracy_check=few)
    assert retry_missed([made], make, quantizer, student, tmp_path / "int8.safetensors") == (made,)
    assert list(tmp_path.iterdir()) == make.by == []


def test_a_training_that_fails_leaves_the_result_of_the_calibration(
    student, quantizer, calibrated, make, tmp_path, recorder, monkeypatch
):
    def diverged(*_arguments):
        raise TrainingDiverged("the noise became nan in epoch 1 of 2")

    monkeypatch.setattr(finetune_int8, "finetune_for_int8", diverged)
    assert retry_missed([calibrated], make, quantizer, student, tmp_path / "int8.safetensors") == (calibrated,)
    assert recorder.warned == ["int8: no training with simulated int8 (the noise became nan in epoch 1 of 2)"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"broken"])
def test_a_damaged_file_of_the_copy_is_refused(student, quantizer, calibrated, make, tmp_path, content):
    weights = tmp_path / "int8.safetensors"
    weights.write_bytes(content)
    with pytest.raises(DataError, match=r"int8\.safetensors"):
        retry_missed([calibrated], make, quantizer, student, weights)


def test_the_training_is_in_the_records(calibrated):
    held = Round((), 0.97, 0.03, 0.045, 20.0, (), 0.1)
    made = replace(calibrated, rounds=(held,), finetuned_epochs=2, calibrated=calibrated.rounds)
    document = made.to_json()
    assert document["finetuned_epochs"] == 2
    assert document["calibrated"][0]["drop"] == calibrated.rounds[0].drop
    loss = int8_losses(Int8Record("", 32, 400, 0.1, (), (made,)))["onnx"]
    assert (loss.value, loss.finetuned_epochs, loss.by_calibration) == (0.03, 2, calibrated.rounds[-1].drop)


def test_both_formats_get_their_second_try(student, quantizer, monkeypatch, tmp_path):
    seen = {}

    def retried(made, make, by, student_, weights):
        seen.update(kinds=[one.format for one in made], weights=weights, student=student_)
        return tuple(made)

    monkeypatch.setattr(precisions, "retry_missed", retried)
    for name in ("to_onnx", "to_openvino"):
        kind = name.removeprefix("to_")
        made = Quantized(kind, {}, (Round((), 1.0, 0.2, 0.3, 10.0, ("signal to noise",), 0.1),), 0.0)
        monkeypatch.setattr(Quantizer, name, lambda self, path, made=made: made)
    monkeypatch.setattr(Quantizer, "costs", ())
    student.to_onnx(tmp_path / "model.onnx")
    record = precisions.export_int8(tmp_path, student, tmp_path / "int8.safetensors")
    assert seen == {"kinds": ["onnx", "openvino"], "weights": tmp_path / "int8.safetensors", "student": student}
    assert [made.format for made in record.formats] == ["onnx", "openvino"]
