"""Tests of DKD: both parts against the paper's formulas, extreme logits, and the warm-up."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from tcs_edge.methods import CachedTargets, Dkd
from tcs_edge.methods.dkd import decoupled_kl

CLASSES, WIDTH, T = 5, 12, 4.0


def logits(seed, scale=5.0):
    return torch.randn(20, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


LABELS = torch.arange(20) % CLASSES


def test_parts_add_up_to_kl_divergence():
    """KL(t || s) = TCKD + (1 - t[label]) NCKD, equation 5 of the paper."""
    student, teacher = logits(0), logits(1)
    tckd, nckd = decoupled_kl(student, teacher, LABELS, T)
    p, q = softmax(teacher.numpy() / T, axis=1), softmax(student.numpy() / T, axis=1)
    plain = (p * np.log(p / q)).sum(axis=1)
    label = p[np.arange(20), LABELS]
    np.testing.assert_allclose((tckd + (1 - torch.from_numpy(label)) * nckd).numpy(), plain, rtol=1e-10)


def test_each_part_matches_its_formula():
    student, teacher = logits(2), logits(3)
    tckd, nckd = decoupled_kl(student, teacher, LABELS, T)
    p, q = softmax(teacher.numpy() / T, axis=1), softmax(student.numpy() / T, axis=1)
    for row, label in enumerate(LABELS.tolist()):
        b_p, b_q = (np.array([x[row, label], 1 - x[row, label]]) for x in (p, q))
        assert tckd[row].item() == pytest.approx((b_p * np.log(b_p / b_q)).sum(), rel=1e-8)
        n_p, n_q = (np.delete(x[row], label) / np.delete(x[row], label).sum() for x in (p, q))
        assert nckd[row].item() == pytest.approx((n_p * np.log(n_p / n_q)).sum(), rel=1e-8)


def test_extreme_teacher_logits_give_finite_losses_and_gradients():
    student = (logits(4).float() * 40).requires_grad_()
    tckd, nckd = decoupled_kl(student, logits(5).float() * 80, LABELS, 1.0)
    (tckd + nckd).sum().backward()
    assert torch.isfinite(tckd).all()
    assert torch.isfinite(nckd).all()
    assert torch.isfinite(student.grad).all()


def test_nckd_is_zero_with_two_classes():
    student, teacher = logits(6)[:, :2], logits(7)[:, :2]
    labels = LABELS % 2
    tckd, nckd = decoupled_kl(student, teacher, labels, 1.0)
    assert nckd.abs().max() == 0
    p, q = softmax(teacher.numpy(), axis=1), softmax(student.numpy(), axis=1)
    np.testing.assert_allclose(tckd.numpy(), (p * np.log(p / q)).sum(axis=1), rtol=1e-8)


def test_weights_of_both_parts_rise_over_warmup_and_are_in_checkpoints(backbone, batch):
    method = Dkd(WIDTH, 3, CachedTargets(logits(8)[:, :3].repeat(3, 1)), alpha=1.0, beta=8.0, warmup=0.5)
    backbone.eval()

    def part():
        losses = method.losses(backbone, batch)
        expected = 16 * (losses.parts["tckd"] + 8 * losses.parts["nckd"])
        return ((losses.total - losses.parts["ce"]) / expected).item()

    assert part() == 0
    for step, share in ((0, 0.02), (24, 0.5), (49, 1.0), (80, 1.0)):
        method.after_backward(step, 100)
        assert part() == pytest.approx(share, abs=1e-5)
    assert set(method.state_dict()) == {"classifier.weight", "classifier.bias", "ramp"}
