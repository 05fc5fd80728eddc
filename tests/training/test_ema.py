"""Tests of the moving average against a plain computation, and of state that is not averaged."""

import pytest
import torch
from torch import nn

from tcs_edge.training.ema import WeightAverage


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("alive", torch.ones(2, dtype=torch.bool))
        self.register_buffer("targets", torch.zeros(1000), persistent=False)


@pytest.fixture
def module():
    return Module()


def walk(module, average, steps):
    """Set the weights to 1, 2, 3, ..., and return the average computed in Python floats."""
    wanted = 0.0
    for step in range(steps):
        with torch.no_grad():
            module.weight.fill_(step + 1)
            module.steps += 1
        average.update(step)
        decay = min(average.decay, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * (step + 1)
    return wanted


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_average_equals_the_formula_with_a_rising_decay(module, decay):
    average = WeightAverage(module, decay)
    wanted = walk(module, average, 40)
    assert average.state["weight"].tolist() == pytest.approx([wanted] * 2, rel=1e-5)


def test_integers_and_masks_are_copied_from_the_last_step(module):
    average = WeightAverage(module, 0.99)
    module.alive[1] = False
    walk(module, average, 7)
    assert average.state["steps"] == 7
    assert average.state["alive"].tolist() == [True, False]


def test_targets_are_not_copied(module):
    assert set(WeightAverage(module, 0.9).state) == {"weight", "steps", "alive"}


def test_the_trained_weights_are_restored_after_the_block(module):
    average = WeightAverage(module, 0.9)
    walk(module, average, 5)
    with average.in_place():
        assert module.weight.tolist() == average.state["weight"].tolist() != [5, 5]
    with pytest.raises(ZeroDivisionError), average.in_place():
        _ = 1 / 0
    assert module.weight.tolist() == [5, 5]
    average.keep()
    assert module.weight.tolist() == average.state["weight"].tolist() != [5, 5]
