"""Tests of mixed batches in every method, and of images without a label."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from tcs_edge.data.images import UNLABELED
from tcs_edge.methods import Batch, CachedTargets, CrossEntropy, Dkd, Kd, Mix, OnlineTeacher, SimKd, Tcs
from tcs_edge.methods.batch import label_loss
from tcs_edge.methods.dkd import decoupled_kl
from tcs_edge.tcs.selection import SelectionSchedule

CLASSES, WIDTH, CHANNELS, GRID, T = 3, 12, 10, 2, 4.0
SHARE, PARTNER = 0.3, [3, 0, 7, 1, 2, 9, 4, 8, 6, 5]
MIX = Mix(torch.tensor(PARTNER), torch.tensor(SHARE))


def blend(rows):
    """Mix rows independently of the package, in float64 numpy."""
    rows = np.asarray(rows, dtype=np.float64)
    return SHARE * rows + (1 - SHARE) * rows[PARTNER]


def two_label_ce(logits, labels, smoothing=0.0):
    target = np.eye(CLASSES)[np.asarray(labels)] * (1 - smoothing) + smoothing / CLASSES
    return -(blend(target) * log_softmax(np.asarray(logits, dtype=np.float64), axis=1)).sum(axis=1).mean()


def mixed_logits(method, backbone, batch):
    return method.logits(backbone, torch.from_numpy(blend(batch.images)).float()).detach().numpy()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_of_mixed_images_is_cross_entropy_of_both_labels(backbone, batch, smoothing):
    method = CrossEntropy(WIDTH, CLASSES, smoothing)
    backbone.eval()
    total = method.losses(backbone, batch.mixed(MIX)).total.item()
    assert total == pytest.approx(
        two_label_ce(mixed_logits(method, backbone, batch), batch.labels, smoothing), rel=1e-5
    )


def test_kd_mixes_teacher_logits(backbone, batch, teacher_logits):
    method = Kd(WIDTH, CLASSES, CachedTargets(teacher_logits), temperature=T, weight=0.4)
    backbone.eval()
    total = method.losses(backbone, batch.mixed(MIX)).total.item()
    logits = mixed_logits(method, backbone, batch)
    target = softmax(blend(teacher_logits[batch.index].half()) / T, axis=1)
    kl = (target * (np.log(target) - log_softmax(logits / T, axis=1))).sum(axis=1).mean()
    assert total == pytest.approx(0.6 * two_label_ce(logits, batch.labels) + 0.4 * T**2 * kl, rel=1e-4)


def test_dkd_splits_divergence_by_both_labels(backbone, batch, teacher_logits):
    method = Dkd(WIDTH, CLASSES, CachedTargets(teacher_logits), temperature=T, alpha=1.0, beta=2.0, warmup=0.0)
    backbone.eval()
    total = method.losses(backbone, batch.mixed(MIX)).total.item()
    logits = torch.from_numpy(mixed_logits(method, backbone, batch)).double()
    target = torch.from_numpy(blend(teacher_logits[batch.index].half()))
    parts = [decoupled_kl(logits, target, labels, T) for labels in (batch.labels, batch.labels[PARTNER])]
    own, partner = ((tckd + 2 * nckd).mean().item() for tckd, nckd in parts)
    expected = two_label_ce(logits, batch.labels) + T**2 * (SHARE * own + (1 - SHARE) * partner)
    assert total == pytest.approx(expected, rel=1e-4)


def test_simkd_mixes_teacher_maps(backbone, batch):
    maps = torch.randn(48, 6, GRID, GRID)
    method = SimKd(CHANNELS, nn.Linear(6, CLASSES), CachedTargets(maps), GRID, signed=True).eval()
    backbone.eval()
    mixed = batch.mixed(MIX)
    pooled = nn.functional.adaptive_avg_pool2d(backbone.stem(mixed.images), GRID)
    projected = method.projector(pooled).detach().numpy()
    expected = np.mean((projected - blend(maps[batch.index].half())) ** 2)
    assert method.losses(backbone, mixed).total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mimic", ["cosine", "mse", "lsh"])
def test_tcs_mixes_coordinates_and_hash_bits(batch, mimic):
    targets = torch.randn(48, 8)
    method = Tcs(WIDTH, CLASSES, targets, SelectionSchedule(), mimic=mimic, hash_bits=64)
    rows = replace(batch, images=torch.randn(10, WIDTH))
    h = method.head.adapter(torch.from_numpy(blend(rows.images)).float()).detach().double().numpy()
    own = targets[rows.index].half().double().numpy()
    z = blend(own)
    if mimic == "cosine":
        expected = 1 - ((h * z).sum(1) / np.linalg.norm(h, axis=1) / np.linalg.norm(z, axis=1)).mean()
    elif mimic == "mse":
        expected = ((h - z) ** 2).sum() / (z**2).sum()
    else:
        directions, bias = method.directions.double().numpy(), method.bias.double().numpy()
        bits, logits = blend(own @ directions + bias > 0), h @ directions + bias
        expected = (np.logaddexp(0, logits) - bits * logits).mean()
    losses = method.losses(nn.Identity(), rows.mixed(MIX))
    assert losses.parts["mimic"].item() == pytest.approx(expected, rel=1e-4)


def test_tcs_mixes_logits_of_soft_labels(batch):
    torch.manual_seed(0)
    targets, logits = torch.randn(48, 8), torch.randn(48, CLASSES)
    method = Tcs(WIDTH, CLASSES, targets, SelectionSchedule(), soft_labels=logits, soft_share=1.0, temperature=T)
    rows = replace(batch, images=torch.randn(10, WIDTH)).mixed(MIX)
    target = softmax(blend(logits[rows.index]) / T, axis=1)
    predicted = log_softmax(method.logits(nn.Identity(), rows.images).detach().double().numpy() / T, axis=1)
    expected = T**2 * (target * (np.log(target) - predicted)).sum(axis=1).mean()
    assert method.losses(nn.Identity(), rows).parts["soft"].item() == pytest.approx(expected, rel=1e-2, abs=1e-4)


def test_online_teacher_gets_mixed_images(batch):
    class View:
        img_size, interpolation, mean, std = 8, "bilinear", (0.1,) * 3, (0.5,) * 3

    seen = OnlineTeacher(nn.Identity(), View(), View())(batch.mixed(MIX))
    np.testing.assert_allclose(seen.numpy(), blend(batch.images), atol=1e-5)


def methods(teacher_logits):
    cached = CachedTargets(teacher_logits)
    yield CrossEntropy(WIDTH, CLASSES, 0.1)
    yield Kd(WIDTH, CLASSES, cached, weight=0.5, label_smoothing=0.1)
    yield Dkd(WIDTH, CLASSES, cached, warmup=0.0, label_smoothing=0.1)
    yield Tcs(WIDTH, CLASSES, torch.randn(48, 4), SelectionSchedule(), label_smoothing=0.1)


@pytest.mark.parametrize("mix", [None, MIX])
def test_images_without_label_are_left_out_of_label_losses(backbone, batch, teacher_logits, mix):
    """Cross-entropy and DKD's parts are means over labeled rows; without labeled rows they are 0, not NaN."""
    backbone.eval()
    labels = batch.labels.clone()
    labels[[1, 4, 8]] = UNLABELED
    for method in methods(teacher_logits):
        some, none = (
            replace(batch, labels=chosen) if mix is None else replace(batch, labels=chosen).mixed(mix)
            for chosen in (labels, torch.full((10,), UNLABELED))
        )
        parts = method.losses(backbone, some).parts
        if mix is None:
            kept = labels != UNLABELED
            alone = Batch(batch.images[kept], labels[kept], batch.index[kept])
            expected = method.losses(backbone, alone).parts
            for name in {"ce", "tckd", "nckd"} & set(parts):
                torch.testing.assert_close(parts[name], expected[name])
        unlabeled = method.losses(backbone, none)
        assert all(unlabeled.parts[name] == 0 for name in {"ce", "tckd", "nckd"} & set(unlabeled.parts))
        unlabeled.total.backward()
        assert torch.isfinite(unlabeled.total)
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_every_label_has_the_same_weight_in_mixed_rows():
    """The loss is a mean over labels, not rows: sum of shares x cross-entropy, divided by the number of labels."""
    logits, labels = torch.randn(10, CLASSES), torch.arange(10) % CLASSES
    labels[[0, 3, 5]] = UNLABELED
    each = -log_softmax(logits.double().numpy(), axis=1)
    expected = sum(
        share * each[row, source_label]
        for row in range(10)
        for share, source_label in ((SHARE, labels[row]), (1 - SHARE, labels[PARTNER[row]]))
        if source_label != UNLABELED
    )
    batch = Batch(torch.zeros(10, 1), labels, torch.arange(10), MIX)
    assert label_loss(logits, batch).item() == pytest.approx(expected / 7, rel=1e-5)


def test_mixing_with_share_one_changes_no_loss(backbone, batch, teacher_logits):
    backbone.eval()
    whole = Mix(torch.tensor(PARTNER), torch.tensor(1.0))
    for method in methods(teacher_logits):
        plain, mixed = (method.losses(backbone, rows).total for rows in (batch, batch.mixed(whole)))
        torch.testing.assert_close(plain, mixed)
