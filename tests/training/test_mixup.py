"""Mixing is drawn from seed, epoch and step alone, and follows the paper's distribution."""

import numpy as np
import pytest
import torch

from tcs_edge.training.mixup import draw_mix

CPU = torch.device("cpu")


def test_a_draw_can_be_drawn_again_and_depends_on_seed_epoch_and_step():
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


def test_partners_are_the_rows_in_another_order():
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


def test_the_order_of_the_images_and_their_mixing_are_drawn_apart():
    """The loader orders epoch e by [seed, e, 0], which numpy also reads from [seed, e, 0, 0]."""
    order = np.random.default_rng([3, 4, 0]).permutation(50).tolist()
    assert order == np.random.default_rng([3, 4, 0, 0]).permutation(50).tolist()
    assert draw_mix(50, 1.0, 3, 4, 0, CPU).partner.tolist() != order
