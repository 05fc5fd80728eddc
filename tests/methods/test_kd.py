"""Tests of KD against its formula in numpy, and of its checkpoints without a teacher."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from tcs_edge.methods import Batch, CachedTargets, CrossEntropy, Kd

CLASSES, WIDTH = 3, 12


def make(teacher_logits, **options):
    torch.manual_seed(3)
    return Kd(WIDTH, CLASSES, CachedTargets(teacher_logits), **options)


@pytest.mark.parametrize(("temperature", "weight"), [(4.0, 0.9), (1.0, 0.5), (2.0, 0.0), (8.0, 1.0)])
def test_loss_matches_formula_of_paper(backbone, batch, teacher_logits, temperature, weight):
    method = make(teacher_logits, temperature=temperature, weight=weight)
    backbone.eval()
    total = method.losses(backbone, batch).total.item()

    logits = method.logits(backbone, batch.images).detach().double().numpy()
    target = teacher_logits[batch.index].half().double().numpy()
    ce = -log_softmax(logits, axis=1)[np.arange(10), batch.labels].mean()
    p = softmax(target / temperature, axis=1)
    kl = (p * (np.log(p) - log_softmax(logits / temperature, axis=1))).sum(axis=1).mean()
    assert total == pytest.approx((1 - weight) * ce + weight * temperature**2 * kl, rel=1e-5)


def test_targets_belong_to_images_not_to_batch_positions(backbone, batch, teacher_logits):
    method, order = make(teacher_logits), torch.randperm(10)
    backbone.eval()
    plain = method.losses(backbone, batch).total
    reordered = Batch(batch.images[order], batch.labels[order], batch.index[order])
    torch.testing.assert_close(plain, method.losses(backbone, reordered).total)
    assert method.losses(backbone, replace(batch, index=batch.index + 1)).total != plain


def test_loss_is_zero_for_student_with_teacher_logits(teacher_logits):
    method = Kd(CLASSES, CLASSES, CachedTargets(teacher_logits), weight=1.0)
    with torch.no_grad():
        method.classifier.weight.copy_(torch.eye(CLASSES))
        method.classifier.bias.zero_()
    index = torch.arange(10)
    agreed = teacher_logits[index].half().float()
    losses = method.losses(torch.nn.Identity(), Batch(agreed, index % CLASSES, index))
    assert losses.total.item() == pytest.approx(0, abs=1e-6)


def test_checkpoint_and_deployed_model_are_as_with_cross_entropy(backbone, batch, teacher_logits):
    method = make(teacher_logits)
    assert set(method.state_dict()) == set(CrossEntropy(WIDTH, CLASSES).state_dict())
    backbone.eval()
    torch.testing.assert_close(method.deployed(backbone)(batch.images), method.logits(backbone, batch.images))
