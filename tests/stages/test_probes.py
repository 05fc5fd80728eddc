"""Tests of probes on a pretrained student's own features: starts, soft labels without a teacher, pooled soft labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tcs_edge.data.images import ImageSet, Split
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.labels.soft_labels import soft_labels
from tcs_edge.methods import MethodInputs, build_method
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.stages.targets import make_targets, own_targets
from tcs_edge.tcs.coordinates import fit_coordinates
from tcs_edge.teachers.features import Features
from tcs_edge.teachers.info import TeacherFacts

IMAGES, DIM, SIDE = 40, 6, 16
INFO = TeacherFacts("timm/test_vit", DIM, "mit", "0" * 64, "made")


class Means(nn.Module):
    """Student whose features are the means of the channels."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean(dim=(2, 3))


@pytest.fixture
def images() -> ImageSet:
    """Dark and bright noise."""

    def split(part: str, count: int, seed: int) -> Split:
        labels = np.arange(count) % 2
        noise = np.random.default_rng(seed).integers(0, 100, (count, SIDE, SIDE, 3))
        pixels = (noise + 100 * labels[:, None, None, None]).astype(np.uint8)
        return Split(pixels, labels, tuple(f"{part}/{i}" for i in range(count)))

    parts = (split("train", IMAGES, 1), split("val", 8, 2), split("test", 8, 3))
    return ImageSet("noise", ("dark", "bright"), *parts, "f")


@pytest.fixture
def options(resolved) -> Any:
    def make(**given: Any) -> ResolvedConfig:
        machine = {"device": "cpu", "workers": 0, "batch_size": 16, "teacher": "timm/test_vit"}
        return resolved(**{"student_init": "weights.safetensors"} | machine | given)

    return make


def built(images: ImageSet, options: ResolvedConfig) -> nn.Module:
    backbone = Means()
    targets = own_targets(images, Preprocess(SIDE), backbone, options)
    method = build_method(MethodInputs(backbone, 3, SIDE, 2, options, targets))
    return method.deployed(backbone).eval()


def accuracy(model: nn.Module, split: Split) -> float:
    preprocess = Preprocess(SIDE)
    pixels = torch.stack([torch.from_numpy(preprocess(split.image(index))) for index in range(len(split))])
    return float((model(pixels).argmax(dim=1).numpy() == split.labels).mean())


@pytest.mark.parametrize("given", [{"method": "probe"}, {"method": "ce", "ce": {"probe_start": True}}])
def test_classifier_starts_as_a_probe_on_the_students_features(images, options, given):
    assert accuracy(built(images, options(**given)), images.test) == 1


def test_cross_entropy_without_probe_start_is_untrained_at_first(images, options):
    assert own_targets(images, Preprocess(SIDE), Means(), options(method="ce")) is None


def test_soft_labels_of_the_students_probe_need_no_teacher(images, options):
    run = options(method="kd", kd={"soft_labels": "student"})
    assert not run.has_teacher
    targets = own_targets(images, Preprocess(SIDE), Means(), run)
    assert targets.cached().shape == (IMAGES, 2)
    assert (targets.cached().argmax(dim=1).numpy() == images.train.labels).all()


@pytest.mark.parametrize("method", ["kd", "dkd"])
def test_pooled_soft_labels_of_kd_are_those_of_tcs(images, options, method):
    rows = np.random.default_rng(7).normal(size=(IMAGES + 8, DIM)).astype(np.float16)
    features = Features(rows[:IMAGES], rows[IMAGES:], "k", INFO, 0, 0.0)
    tables = {"kd": {"soft_labels": "pooled"}, "dkd": {"soft_labels": "pooled"}}
    inputs = (features, images, Preprocess(SIDE), Means())
    of_kd = make_targets(*inputs, options(method=method, **tables)).cached()
    of_tcs = make_targets(*inputs, options(tcs={"soft_share": 0.9})).soft_labels
    torch.testing.assert_close(of_kd, of_tcs)
    teacher = make_targets(*inputs, options(method=method)).cached()
    assert not torch.allclose(of_kd.float(), teacher.float(), atol=0.1)


def test_pooled_soft_labels_are_the_weighted_mean_of_two_probes(images, options):
    rows = np.random.default_rng(7).normal(size=(IMAGES + 8, DIM)).astype(np.float16)
    features = Features(rows[:IMAGES], rows[IMAGES:], "k", INFO, 0, 0.0)
    run = options(method="kd", kd={"soft_labels": "pooled"})
    found = make_targets(features, images, Preprocess(SIDE), Means(), run).cached()
    preprocess = Preprocess(SIDE)
    own = torch.stack([torch.from_numpy(preprocess(images.train.image(index))) for index in range(IMAGES)])
    sources = {}
    for name, each in (("teacher", torch.from_numpy(rows[:IMAGES])), ("student", Means()(own).half())):
        sources[name] = fit_coordinates([each], 256).transform(each)
    expected = soft_labels(sources, images.train.labels, np.arange(IMAGES), 2, neighbors=False)
    torch.testing.assert_close(found.float(), expected.logits, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "probe", "student_init": "random"}, "needs pretrained weights"),
        ({"method": "ce", "ce": {"probe_start": True}, "student_init": "random"}, "needs pretrained weights"),
        ({"method": "kd", "kd": {"soft_labels": "student"}, "student_init": "random"}, "needs pretrained weights"),
        ({"method": "kd", "kd": {"soft_labels": "pooled"}, "online_teacher": True}, "belong to plain images"),
    ],
)
def test_options_that_do_not_go_together(options, given, message):
    with pytest.raises(ValidationError, match=message):
        options(**given)
