"""Tests of mixup: dependence on seed, epoch and step, and the distribution of the paper."""

import numpy as np
import pytest
import torch

from tcs_edge.training.mixup import draw_mix

CPU = torch.device("cpu")


def test_a_draw_depends_on_seed_epoch_and_step_alone():
    torch.manual_seed(0)
    first = draw_mix(16, 0.4, 1, 2, 3, CPU)
    torch.manual_seed(9)
    again = draw_mix(16, 0.4, 1, 2, 3, CPU)
    assert torch.equal(first.partner, again.partner)
    assert first.share == again.share
    assert (
        len({draw_mix(16, 0.4, *place, CPU).share.item() for place in [(1, 2, 3), (0, 2, 3), (1, 0, 3), (1, 2, 0)]})
        == 4
    )


def test_partners_are_a_permutation_of_the_rows():
    mix = draw_mix(12, 1.0, 0, 0, 0, CPU)
    assert sorted(mix.partner.tolist()) == list(range(12))
    assert mix.partner.tolist() != list(range(12))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_have_the_moments_of_the_beta_distribution(alpha):
    shares = np.array([draw_mix(2, alpha, 0, 0, step, CPU).share.item() for step in range(3000)])
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)


def test_order_and_mixup_have_independent_draws():
    """The loader's seed of epoch e is [seed, e, 0], and numpy treats [seed, e, 0, 0] the same."""
    order = np.random.default_rng([3, 4, 0]).permutation(50).tolist()
    assert order == np.random.default_rng([3, 4, 0, 0]).permutation(50).tolist()
    assert draw_mix(50, 1.0, 3, 4, 0, CPU).partner.tolist() != order
