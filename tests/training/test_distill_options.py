"""Every option of [train] on the road from digits to deployed weights, through `distill` itself."""

import json

import pytest
import torch

from tcs_edge.data import ImageSet, Preprocess, load_images
from tcs_edge.methods import DistillationTargets
from tcs_edge.students.build import build_student, feature_dim
from tcs_edge.training import distill as stage
from tcs_edge.training.distill import TrainingFiles, distill
from tcs_edge.training.fold import save_deployed

SIZE, IMAGES = 32, 32


@pytest.fixture(scope="module")
def images():
    digits = load_images(None)
    train, val = digits.train.subset(range(IMAGES)), digits.val.subset(range(16))
    return ImageSet("some digits", digits.classes, train, val, digits.test, "some")


@pytest.fixture
def deploy(images, tmp_path, resolved):
    """deploy(mixup=0.2): the bytes of the deployed weights, and the metrics of each epoch."""

    def run(method="tcs", **train):
        options = resolved(method=method, train=train, epochs=1, batch_size=8, device="cpu", workers=0)
        files = TrainingFiles(*(tmp_path / name for name in ("state", "metrics", "selection")))
        backbone = build_student("lcnet_050", SIZE, "random", 0)
        width = {"tcs": 12, "kd": 10, "dkd": 10}.get(method)
        rows = torch.randn(IMAGES, width, generator=torch.Generator().manual_seed(0)) if width else None
        torch.manual_seed(0)
        probe = torch.nn.Linear(width or 1, 10)
        soft_labels = probe(rows).detach() if width else None
        targets = DistillationTargets(rows=rows, probe=probe, soft_labels=soft_labels) if width else None
        preprocess = Preprocess(SIZE)
        model = distill(backbone, feature_dim(backbone, SIZE), images, preprocess, targets, options, files, False)
        save_deployed(tmp_path / "weights", model)
        metrics = [json.loads(line) for line in files.metrics.read_text().splitlines()]
        return (tmp_path / "weights").read_bytes(), metrics

    return run


OPTIONS = [
    {"amp": "bf16"}, {"label_smoothing": 0.1}, {"mixup": 0.4}, {"rand_augment": 9}, {"ema_decay": 0.9},
    {"weight_decay": 0.5}, {"warmup_fraction": 0.5}, {"grad_clip": 0.01},
    {"rand_augment": 9, "rand_augment_ops": 1, "mixup": 0.2, "ema_decay": 0.9, "amp": "bf16", "deterministic": True},
]  # fmt: skip


@pytest.mark.parametrize("train", OPTIONS, ids=lambda train: "+".join(train))
def test_an_option_reaches_the_deployed_weights_and_repeats_to_the_byte(deploy, train):
    (plain, _), (first, metrics), (second, again) = deploy(), deploy(**train), deploy(**train)
    assert first == second
    assert first != plain
    assert [line["loss"] for line in metrics] == [line["loss"] for line in again]


def test_the_deterministic_mode_is_on_while_the_student_trains_and_off_afterwards(deploy, monkeypatch):
    seen, train = [], stage.train

    def spy(*arguments):
        seen.append(torch.are_deterministic_algorithms_enabled())
        train(*arguments)

    monkeypatch.setattr(stage, "train", spy)
    assert deploy(deterministic=True)[0] == deploy()[0]
    assert seen == [True, False]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("method", ["tcs", "kd", "dkd", "ce"])
def test_label_smoothing_reaches_the_cross_entropy_of_every_method_that_has_one(deploy, method):
    (_, plain), (_, smoothed) = deploy(method), deploy(method, label_smoothing=0.3)
    assert plain[0]["ce"] != smoothed[0]["ce"]
