"""Temperature and threshold for unknown images, against independent computations."""

import numpy as np
import pytest
import torch

from tcs_edge.validation.confidence import fit_temperature, unknown_threshold
from tcs_edge.validation.metrics import expected_calibration_error


def drawn(images, classes, factor, seed=0):
    """Logits that are `factor` times too large, with labels drawn from the probabilities of the right ones."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((images, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in probabilities])
    return factor * logits, labels


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0, 20.0])
def test_the_temperature_undoes_a_known_factor(factor):
    logits, labels = drawn(4000, 5, factor)
    assert fit_temperature(logits, labels) == pytest.approx(factor, rel=0.1)
    assert expected_calibration_error(logits / fit_temperature(logits, labels), labels) < 0.03


def test_the_temperature_equals_that_of_torch():
    logits, labels = drawn(300, 4, 2.5)
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    rows, target = torch.tensor(logits), torch.tensor(labels)
    optimizer = torch.optim.LBFGS([inverse], max_iter=200, tolerance_grad=1e-12)
    wrong = 1 / 302
    smooth = torch.full(rows.shape, wrong / 3, dtype=torch.float64).scatter(1, target[:, None], 1 - wrong)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(rows * inverse, smooth)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(logits, labels) == pytest.approx(1 / inverse.item(), rel=1e-4)


@pytest.mark.parametrize("images", [1, 8, 200])
def test_no_error_on_few_images_does_not_give_infinite_confidence(images):
    logits = np.tile([4.0, 0.0, 0.0], (images, 1))
    temperature = fit_temperature(logits, np.zeros(images, dtype=int))
    probability = 1 / (1 + 2 * np.exp(-4 / temperature))
    assert probability == pytest.approx(1 - 1 / (images + 2), abs=1e-3)


def test_a_useless_model_stays_within_bounds():
    labels = np.arange(90) % 3
    wrong = 50 * np.eye(3)[(labels + 1) % 3]
    assert fit_temperature(wrong, labels) == pytest.approx(100, rel=1e-3)
    assert fit_temperature(np.zeros((5, 3)), np.zeros(5, dtype=int)) > 0
    assert fit_temperature(np.full((5, 3), np.nan), np.zeros(5, dtype=int)) == 1.0
    assert fit_temperature(np.zeros((5, 1)), np.zeros(5, dtype=int)) == 1.0


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_new_images_fall_below_the_threshold_as_often_as_promised(rate):
    rng = np.random.default_rng(0)
    found = [rng.random(50) < (unknown_threshold(rng.random(120), rate) or 0) for _ in range(3000)]
    assert np.floor(rate * 121) / 121 == pytest.approx(np.mean(found), abs=0.004)
    assert np.mean(found) <= rate + 0.004


def test_too_few_images_give_no_threshold():
    assert unknown_threshold(np.arange(18), 0.05) is None
    assert unknown_threshold(np.arange(19), 0.05) == 0
    assert unknown_threshold(np.arange(39), 0.05) == 1
