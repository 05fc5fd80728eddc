"""Reading of the images before a run: excluded names, here and when a run's images are read again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tcs_edge.errors import DataError, NoCandidate, UsageError
from tcs_edge.models.candidates import listed_candidate
from tcs_edge.runs.load import images_of
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.target import list_targets
from tcs_edge.stages import prepare as module
from tcs_edge.stages.prepare import list_students
from tcs_edge.students.build import pretrained_file
from tcs_edge.training.accelerator import settled_amp


@pytest.fixture
def options(own_photos):
    def make(**changes):
        asked = {"target": "raspberrypi4", "student": "lcnet_050", "student_init": "random", "data": own_photos}
        return CompressConfig.model_validate(asked | {"device": "cpu", "threads": 1} | changes)

    return make


def test_excluded_names_are_left_out_of_labeled_and_unlabeled_images(options, own_photos, tmp_path):
    whole = list_students(options()).images
    (own_photos / "train" / "labels").mkdir()
    with pytest.raises(DataError, match="--exclude labels"):
        list_students(options())
    assert list_students(options(exclude=["labels"])).images.fingerprint == whole.fingerprint
    more = shutil.copytree(own_photos / "test", tmp_path / "more/keep")
    for number, path in enumerate(sorted(more.rglob("*.*g"))):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    shutil.copytree(more, tmp_path / "more/labels")
    listed = list_students(options(exclude=["labels", "red"], unlabeled=tmp_path / "more"))
    assert listed.images.classes == ("blue", "green")
    assert listed.images.counts()["unlabeled"] == 24


def test_a_runs_images_are_read_again_without_its_excluded_names(options, own_photos, tmp_path):
    (own_photos / "train" / "labels").mkdir()
    images = list_students(options(exclude=["labels"])).images
    manifest = SimpleNamespace(
        options={"data": str(own_photos), "exclude": ["labels"]},
        seed=0,
        dataset=SimpleNamespace(fingerprint=images.fingerprint),
    )
    assert images_of(tmp_path, manifest, None).fingerprint == images.fingerprint
    assert images_of(tmp_path, manifest, own_photos).classes == ("blue", "green", "red")


LITE0, B0_TAG = "tf_efficientnet_lite0", "efficientnet_b0.ra_in1k"


def _student(options, name):
    return list_students(options(target="raspberrypi", student=name, img_size=224)).choice.winner


@pytest.mark.parametrize("tagged", ["tf_efficientnet_lite0.in1k", "timm/tf_efficientnet_lite0"])
def test_a_tag_keeps_the_facts_of_the_student(options, tagged):
    plain, found = (_student(options, name) for name in (LITE0, tagged))
    assert found.latency == plain.latency
    assert found.size_mb == plain.size_mb
    assert found.candidate == replace(plain.candidate, name=tagged.removeprefix("timm/"))


@pytest.mark.parametrize("name", [LITE0, "tf_efficientnet_lite0.in1k"])
def test_a_tag_meets_the_same_limits(options, name):
    with pytest.raises(NoCandidate, match="10 ms"):
        list_students(options(target="raspberrypi", student=name, img_size=224, max_latency_ms=10))


def test_a_runtime_that_the_target_lacks_is_refused(options):
    with pytest.raises(UsageError, match="raspberrypi4 has no runtime openvino, only onnxruntime"):
        list_students(options(target="raspberrypi4", runtime="openvino"))


def test_the_student_is_chosen_for_the_runtime_and_precision_to_deploy(options):
    asked = {"target": "raspberrypi5", "img_size": 224, "max_latency_ms": 50}
    fastest, forced = (
        list_students(options(**asked, **more)).choice.winner for more in ({}, {"runtime": "onnxruntime"})
    )
    assert fastest.latency.runtime == "openvino"
    assert forced.latency.runtime == "onnxruntime"
    auto = {"student": "auto", "precision": ("int8",), "max_size_mb": 50}
    eighth = list_students(options(**asked, **auto)).choice.winner
    assert (eighth.precision, eighth.latency.precision) == ("int8", "int8")
    assert eighth.accuracy_loss == 1.0


def test_a_student_that_a_format_on_request_does_not_hold_is_left_out(options, caplog):
    caplog.set_level("INFO")
    asked = {"target": "raspberrypi5", "img_size": 224, "max_params_m": 2.5, "student": "auto"}
    best, held = (list_students(options(**asked, **more)).choice.winner for more in ({}, {"format": ("ncnn",)}))
    assert best.candidate.name == "mobilevitv2_075"
    assert held.candidate.name == "mobilenetv4_conv_small"
    assert "left out: 13 of 53 students, which ncnn does not hold" in caplog.text
    named = list_students(options(**asked | {"student": "mobilevitv2_075"}, format=("ncnn",)))
    assert named.choice.winner.candidate.name == "mobilevitv2_075"  # the trial before the training decides


def test_another_tag_has_its_own_weights():
    plain, other = listed_candidate("efficientnet_b0"), listed_candidate(B0_TAG)
    assert other.weights == B0_TAG != plain.weights
    assert (other.macs_m, other.size_mb(10), other.size_source) == (plain.macs_m, plain.size_mb(10), "measured")
    assert other.top1 is other.license is None
    assert pretrained_file(B0_TAG).repo.endswith(B0_TAG)
    assert listed_candidate("resnet26") is None


@pytest.mark.parametrize("target", list_targets())
def test_the_demo_has_the_same_small_student_on_every_target(target):
    listed = list_students(CompressConfig(target=target, device="cpu", threads=1))
    assert listed.prepared().student.name == "mnasnet_small"


@pytest.mark.parametrize(
    ("device", "amp", "resolved", "workers"),
    [("cuda", "auto", "bf16", 16), ("cuda", "no", "no", 16), ("cpu", "auto", "no", 4), ("cpu", "bf16", "bf16", 4)],
)
def test_precision_and_workers_suit_the_device(options, monkeypatch, device, amp, resolved, workers):
    def accelerator(_device, wanted="no"):
        found = torch.device(device)
        return SimpleNamespace(device=found, mixed_precision=settled_amp(wanted, found))

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(module, "make_accelerator", accelerator)
    ready = list_students(options(threads=32, train={"amp": amp})).prepared()
    assert (ready.options.train.amp, ready.options.workers) == (resolved, workers)
    assert CompressConfig(target="raspberrypi4").train.amp == "auto"
