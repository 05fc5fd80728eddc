"""Tests of the soft labels of TCS from the teacher and from the student's own pretrained features."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
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
from tcs_edge.teachers.info import TeacherFacts

LABELED, IMAGES, DIM, SIDE = 20, 80, 12, 16
INFO = TeacherFacts("timm/test_vit", DIM, "mit", "0" * 64, "made")


class Brightness(nn.Module):
    """Student whose features separate the classes: per-channel means through batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.norm(pixels.mean(dim=(2, 3)))


@pytest.fixture
def images() -> ImageSet:
    """Dark and bright noise; only the first `LABELED` training images have labels."""

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


def features(separated: bool) -> Features:
    """Features of a teacher: noise, with the classes `separated` on the first axis if wanted."""
    rows = np.random.default_rng(7).normal(size=(IMAGES + 8, DIM)).astype(np.float16)
    if separated:
        rows[:, 0] += 6 * (np.r_[np.arange(IMAGES), np.arange(8)] % 2)
    return Features(rows[:IMAGES], rows[IMAGES:], "k", INFO, 0, 0.0)


@pytest.fixture
def options(resolved) -> Callable[..., ResolvedConfig]:
    def make(init: str = "weights.safetensors", **tcs: Any) -> ResolvedConfig:
        machine = {"device": "cpu", "workers": 0, "batch_size": 16}
        labels = {"shots": LABELED // 2, "rest_unlabeled": True}
        return resolved(teacher="timm/test_vit", student_init=init, tcs=tcs, **machine, **labels)

    return make


def accuracy(logits: torch.Tensor | None) -> float:
    assert logits is not None
    return float((logits.argmax(dim=1).numpy() == np.arange(IMAGES) % 2)[LABELED:].mean())


def test_pretrained_student_gives_soft_labels_where_teacher_features_are_noise(images, recorder, options):
    student = Brightness().train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    found = make_targets(features(separated=False), images, Preprocess(SIDE), student, options())
    assert accuracy(found.soft_labels) > 0.95
    assert any("student probe" in line and "held-out accuracy 100 %" in line for line in recorder.said)
    assert student.training
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("given", "backbone"),
    [({"init": "random"}, Brightness()), ({"student_probe": False}, Brightness()), ({}, None)],
)
def test_teacher_alone_gives_soft_labels_without_student_probe(images, given, backbone, recorder, options):
    found = make_targets(features(separated=False), images, Preprocess(SIDE), backbone, options(**given))
    assert accuracy(found.soft_labels) < 0.8
    assert not any("student" in line for line in recorder.said)


def test_more_accurate_teacher_gets_most_of_the_weight(images, recorder, options):
    class Blind(Brightness):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.randn(len(pixels), 4, generator=torch.Generator().manual_seed(len(pixels)))

    found = make_targets(features(separated=True), images, Preprocess(SIDE), Blind(), options())
    assert accuracy(found.soft_labels) > 0.95
    teacher = next(line for line in recorder.said if line.startswith("soft labels: teacher probe"))
    assert float(re.findall(r"(\d+) %", teacher)[0]) >= 90


def test_student_with_identical_features_for_all_images_gets_no_probe(images, recorder, options):
    """Untrained weights may be so small that every feature is 0 in float16."""

    class Dark(Brightness):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return 1e-12 * super().forward(pixels)

    found = make_targets(features(separated=True), images, Preprocess(SIDE), Dark(), options())
    assert accuracy(found.soft_labels) > 0.95
    assert any("no student probe" in line for line in recorder.said)


def test_probe_reproduces_soft_labels_of_a_single_source(images, options):
    found = make_targets(features(separated=True), images, Preprocess(SIDE), None, options("random"))
    with torch.no_grad():
        logits = found.probe(found.rows.float())
        # The soft labels are stored as float16, with steps of at most 2^-10 of a value.
        torch.testing.assert_close(logits, found.soft_labels.float(), rtol=2**-10, atol=1e-4)


def test_probe_for_the_classifier_is_fitted_on_teacher_coordinates(images, options):
    found = make_targets(features(separated=False), images, Preprocess(SIDE), Brightness(), options())
    assert accuracy(found.soft_labels) > 0.95
    assert found.probe.in_features == found.rows.shape[1] != 3


def test_student_probe_leaves_target_coordinates_unchanged(images, options):
    given = (features(separated=False), images, Preprocess(SIDE))
    with_probe = make_targets(*given, Brightness(), options())
    without = make_targets(*given, None, options())
    torch.testing.assert_close(with_probe.rows, without.rows)


def test_no_soft_labels_are_made_without_need(images, options):
    given = features(separated=True), images, Preprocess(SIDE), Brightness(), options(soft_labels=False)
    found = make_targets(*given)
    assert (found.soft_labels, found.soft_share) == (None, 0)


def all_labeled(images):
    return replace(images, train=replace(images.train, labels=np.arange(IMAGES) % 2))


def test_share_of_soft_labels_follows_the_teachers_advantage(images, recorder, options):
    """With all labels, a pretrained student gets none from a worse teacher and most from a better one."""
    every = all_labeled(images)

    class Blind(Brightness):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.randn(len(pixels), 4, generator=torch.Generator().manual_seed(len(pixels)))

    worse = make_targets(features(separated=False), every, Preprocess(SIDE), Brightness(), options())
    better = make_targets(features(separated=True), every, Preprocess(SIDE), Blind(), options())
    assert (worse.soft_share, better.soft_share) == (0, 0.9)
    assert "soft labels: 90 % of the loss of a labeled image" in recorder.said
    given = make_targets(features(separated=True), every, Preprocess(SIDE), Blind(), options(soft_share=0.3))
    assert given.soft_share == 0.3


def test_share_of_soft_labels_is_half_for_random_weights_and_high_with_few_labels(images, options):
    given = Preprocess(SIDE), None, options("random")
    assert make_targets(features(separated=True), all_labeled(images), *given).soft_share == 0.5
    few = make_targets(features(separated=True), images, *given).soft_share
    assert few == pytest.approx(0.9 * (1 - LABELED / IMAGES) + 0.5 * LABELED / IMAGES)


def test_shuffled_targets_leave_the_soft_labels_alone(images, options):
    given = features(separated=True), images, Preprocess(SIDE), None
    plain = make_targets(*given, options("random"))
    shuffled = make_targets(*given, options("random", ablation="shuffled-targets"))
    torch.testing.assert_close(plain.soft_labels, shuffled.soft_labels)
    assert not torch.equal(plain.rows, shuffled.rows)
    torch.testing.assert_close(plain.rows.sort(dim=0).values, shuffled.rows.sort(dim=0).values)


def test_non_finite_features_raise():
    with pytest.raises(DataError, match=r"features of w\.safetensors are NaN"):
        features_before_training(nn.Flatten(), [torch.full((2, 3), torch.nan)], torch.device("cpu"), "w.safetensors")


def test_both_sources_have_equal_weight_with_one_label_per_class(images, recorder, options):
    one_each = np.where(np.arange(IMAGES) < 2, images.train.labels, UNLABELED)
    few = replace(images, train=replace(images.train, labels=one_each))
    make_targets(features(separated=True), few, Preprocess(SIDE), Brightness(), options())
    lines = [line for line in recorder.said if line.startswith("soft labels: ") and " probe 50 % " in line]
    assert len(lines) == 2
    assert all("(no held-out labels, " in line for line in lines)
