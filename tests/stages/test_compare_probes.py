"""The teacher against a pretrained student's own features, on validation images before the training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tcs_edge.data.images import ImageSet, Split
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.stages import compare_probes as module
from tcs_edge.stages.compare_probes import compare_probes
from tcs_edge.teachers.features import Features
from tcs_edge.teachers.info import TeacherFacts

SIDE, DIM, TRAIN, VAL = 16, 12, 60, 40


class Brightness(nn.Module):
    """Student whose features separate dark from bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.norm(pixels.mean(dim=(2, 3)))


class Blind(Brightness):
    """Student whose features have nothing to do with the images."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(pixels), 4, generator=torch.Generator().manual_seed(len(pixels)))


class Overflowing(Brightness):
    """Student whose features are too large for float16."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return 1e9 + pixels.mean(dim=(2, 3))


@pytest.fixture
def images() -> ImageSet:
    """Dark and bright noise."""

    def split(part: str, count: int, seed: int) -> Split:
        labels = np.arange(count) % 2
        noise = np.random.default_rng(seed).integers(0, 100, (count, SIDE, SIDE, 3))
        pixels = (noise + 100 * labels[:, None, None, None]).astype(np.uint8)
        return Split(pixels, labels, tuple(f"{part}/{i}" for i in range(count)))

    return ImageSet(
        "noise", ("dark", "bright"), split("train", TRAIN, 1), split("val", VAL, 2), split("test", 8, 3), "f"
    )


def features(separated: bool) -> Features:
    rows = np.random.default_rng(7).normal(size=(TRAIN + VAL, DIM)).astype(np.float16)
    if separated:
        rows[:, 0] += 8 * (np.r_[np.arange(TRAIN), np.arange(VAL)] % 2)
    meta = TeacherFacts("made", DIM, "mit", "0" * 64, "made")
    return Features(rows[:TRAIN], rows[TRAIN:], "k", meta, 0, 0.0)


@pytest.fixture
def options(resolved: Callable[..., Any]) -> Callable[..., Any]:
    given = {"teacher": "timm/test_vit", "device": "cpu", "workers": 0, "batch_size": 16}
    return lambda init="weights.safetensors": resolved(student_init=init, **given)


@pytest.mark.parametrize(("student", "separated", "better"), [(Brightness, False, "student"), (Blind, True, "teacher")])
def test_the_better_features_have_the_better_probe(images, options, student, separated, better):
    found = compare_probes(features(separated), images, Preprocess(SIDE), student(), options())
    accuracy = {"teacher": found.teacher, "student": found.student}
    assert accuracy.pop(better) > 0.95
    assert next(iter(accuracy.values())) < 0.8
    assert (found.images, found.shown) == (VAL, True)


def test_a_difference_of_one_image_is_not_shown(images, options):
    found = compare_probes(features(True), images, Preprocess(SIDE), Brightness(), options())
    assert found.teacher == pytest.approx(found.student, abs=0.03)
    assert not found.shown


def test_weights_mode_and_random_numbers_do_not_change(images, options):
    student = Brightness().train()
    before, state = {name: value.clone() for name, value in student.state_dict().items()}, torch.get_rng_state()
    compare_probes(features(True), images, Preprocess(SIDE), student, options())
    assert student.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_large_sets_are_sampled(images, options, monkeypatch):
    seen: list[int] = []

    class Counted(Brightness):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(len(pixels))
            return super().forward(pixels)

    monkeypatch.setattr(module, "MOST_IMAGES", 20)
    # Every third image is of the other class too.
    found = compare_probes(features(True), images, Preprocess(SIDE), Counted(), options())
    assert sum(seen) == 40
    assert found.images == 20


@pytest.mark.parametrize(("init", "student"), [("random", Brightness), ("weights.safetensors", Overflowing)])
def test_without_usable_student_features_nothing_is_compared(images, options, init, student):
    assert compare_probes(features(True), images, Preprocess(SIDE), student(), options(init)) is None


def test_the_line_follows_the_pass_and_precedes_the_training(
    cli: Any, tiny: Callable[..., list[str]], tmp_path: Path, short_training: None
) -> None:
    from safetensors.torch import save_file

    from tcs_edge.students.build import build_student

    weights = tmp_path / "lcnet_050.safetensors"
    save_file(build_student("lcnet_050", 64, "random", 3).state_dict(), weights)
    result = cli(*tiny(student_init=weights, epochs=1), "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8").splitlines()
    starts = ["no gain expected", "teacher probe", "probes on 24 validation images: teacher", "epoch 1 of 1"]
    places = [next(row for row, line in enumerate(log) if start in line) for start in starts]
    assert places == sorted(places)
