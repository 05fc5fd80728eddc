"""What TCS is told about images without labels: by the teacher, and by a student that knows something already."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tcs_edge.data.images import UNLABELED, ImageSet, Split
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import DataError
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.stages.targets import make_targets
from tcs_edge.students.features import features_before_training
from tcs_edge.teachers.features import Features
from tcs_edge.teachers.load import TeacherInfo

LABELED, IMAGES, DIM, SIDE = 20, 80, 12, 16
INFO = TeacherInfo("timm/test_vit", "made", Preprocess(SIDE), DIM, "mit", 1.0, Path("made"), "0" * 64, "made")


class Brightness(nn.Module):
    """A student that already sees the difference: per-channel means, through a normalization that training moves."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.norm(pixels.mean(dim=(2, 3)))


@pytest.fixture
def images() -> ImageSet:
    """Dark and bright noise; of the training images all but `LABELED` have no label."""

    def split(part: str, count: int, seed: int) -> Split:
        labels = np.arange(count) % 2
        pixels = (
            np.random.default_rng(seed).integers(0, 100, (count, SIDE, SIDE, 3)) + 100 * labels[:, None, None, None]
        )
        return Split(pixels.astype(np.uint8), labels, tuple(f"{part}/{i}" for i in range(count)))

    train = split("train", IMAGES, 1)
    some = np.where(np.arange(IMAGES) < LABELED, train.labels, UNLABELED)
    return ImageSet(
        "noise", ("dark", "bright"), replace(train, labels=some), split("val", 8, 2), split("test", 8, 3), "f"
    )


def features(knows: bool) -> Features:
    """Of a teacher that tells the classes apart on its first axis, or that knows nothing."""
    rows = np.random.default_rng(7).normal(size=(IMAGES + 8, DIM)).astype(np.float16)
    if knows:
        rows[:, 0] += 6 * (np.r_[np.arange(IMAGES), np.arange(8)] % 2)
    return Features(rows[:IMAGES], rows[IMAGES:], "k", INFO, 0, 0.0)


@pytest.fixture
def options(resolved) -> Callable[..., ResolvedConfig]:
    def make(init: str = "weights.safetensors", **tcs: Any) -> ResolvedConfig:
        machine = {"device": "cpu", "workers": 0, "batch_size": 16}
        labels = {"shots": LABELED // 2, "rest_unlabeled": True}
        return resolved(teacher="timm/test_vit", student_init=init, tcs=tcs, **machine, **labels)

    return make


def right(logits: torch.Tensor | None) -> float:
    assert logits is not None
    return float((logits.argmax(dim=1).numpy() == np.arange(IMAGES) % 2)[LABELED:].mean())


def test_given_weights_answer_alone_where_the_teacher_knows_nothing(images, recorder, options):
    student = Brightness().train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    found = make_targets(features(knows=False), images, Preprocess(SIDE), student, options())
    assert right(found.soft_labels) > 0.95
    assert any("student's own features before training" in line and "finds 100%" in line for line in recorder.said)
    assert student.training
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("given", "backbone"),
    [({"init": "random"}, Brightness()), ({"student_probe": False}, Brightness()), ({}, None)],
)
def test_otherwise_the_teacher_answers_however_little_it_knows(images, given, backbone, recorder, options):
    found = make_targets(features(knows=False), images, Preprocess(SIDE), backbone, options(**given))
    assert right(found.soft_labels) < 0.8
    assert not any("student" in line for line in recorder.said)


def test_a_teacher_that_knows_more_than_the_student_answers(images, recorder, options):
    class Blind(Brightness):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.randn(len(pixels), 4, generator=torch.Generator().manual_seed(len(pixels)))

    found = make_targets(features(knows=True), images, Preprocess(SIDE), Blind(), options())
    assert right(found.soft_labels) > 0.95
    teacher = next(line for line in recorder.said if "from the teacher's coordinates" in line)
    assert float(re.findall(r"(\d+)%", teacher)[0]) >= 90


def test_a_student_that_sees_no_difference_at_all_leaves_the_answer_to_the_teacher(images, recorder, options):
    """Untrained weights may be so small that every feature is 0 in fp16."""

    class Dark(Brightness):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return 1e-12 * super().forward(pixels)

    found = make_targets(features(knows=True), images, Preprocess(SIDE), Dark(), options())
    assert right(found.soft_labels) > 0.95
    assert any("none from the student's own features" in line for line in recorder.said)


def test_a_classifier_can_start_as_the_very_probe_that_gives_the_soft_labels(images, options):
    found = make_targets(features(knows=True), images, Preprocess(SIDE), None, options("random"))
    with torch.no_grad():
        torch.testing.assert_close(found.probe(found.rows.float()), found.soft_labels, rtol=1e-4, atol=1e-4)


def test_a_classifier_never_starts_as_a_probe_on_the_students_own_features(images, options):
    found = make_targets(features(knows=False), images, Preprocess(SIDE), Brightness(), options())
    assert right(found.soft_labels) > 0.95
    assert found.probe.in_features == found.rows.shape[1] != 3


def test_the_targets_stay_the_teachers(images, options):
    given = (features(knows=False), images, Preprocess(SIDE))
    ours = make_targets(*given, Brightness(), options())
    theirs = make_targets(*given, None, options())
    torch.testing.assert_close(ours.rows, theirs.rows)


def test_no_soft_labels_are_made_that_nobody_hears(images, options):
    given = features(knows=True), images, Preprocess(SIDE), Brightness(), options(soft_weight=0)
    assert make_targets(*given).soft_labels is None


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match=r"features of w\.safetensors are NaN"):
        features_before_training(nn.Flatten(), [torch.full((2, 3), torch.nan)], torch.device("cpu"), "w.safetensors")


def test_with_one_label_per_class_both_answer_alike(images, recorder, options):
    one_each = np.where(np.arange(IMAGES) < 2, images.train.labels, UNLABELED)
    few = replace(images, train=replace(images.train, labels=one_each))
    make_targets(features(knows=True), few, Preprocess(SIDE), Brightness(), options())
    said = [line for line in recorder.said if line.startswith("soft labels: 50% from the ")]
    assert len(said) == 2
    assert not any("held out" in line for line in said)
