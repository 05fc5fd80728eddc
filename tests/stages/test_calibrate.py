"""Calibration of a trained model: the temperature in its last layer, and the threshold for unknown images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tcs_edge.data import Preprocess, load_images
from tcs_edge.data.loader import image_batches
from tcs_edge.errors import DataError
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.stages.calibrate import calibrate
from tcs_edge.training.fold import folded_temperature, save_deployed
from tcs_edge.validation.metrics import expected_calibration_error


class Pooled(nn.Module):
    """Mean color of an image."""

    def forward(self, images):
        return images.mean(dim=(2, 3))


@pytest.fixture
def images(photos):
    return load_images(photos, 0)


PREPROCESS = Preprocess(img_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def overconfident() -> nn.Sequential:
    """A model on the mean color that errs, and is far too sure."""
    torch.manual_seed(1)
    return nn.Sequential(Pooled(), nn.Linear(3, 3)).requires_grad_(False)


def outputs(model, split):
    runner = TorchRunner(model)
    parts = [(runner.run(pixels), labels) for pixels, labels in image_batches(split, PREPROCESS, 16)]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def test_the_temperature_divides_the_logits_and_keeps_every_class(images, resolved):
    model = overconfident()
    model[1].weight *= 200
    before, labels = outputs(model, images.val)
    confidence = calibrate(model, images, PREPROCESS, resolved())
    after, _ = outputs(model, images.val)
    assert confidence.temperature > 5
    np.testing.assert_allclose(after, before / confidence.temperature, rtol=1e-4, atol=1e-4)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    assert expected_calibration_error(after, labels) < expected_calibration_error(before, labels)


def test_a_temperature_in_the_weights_is_not_folded_again(images, resolved):
    model = overconfident()
    weights = model[1].weight.clone()
    first = calibrate(model, images, PREPROCESS, resolved(), folded=3.0)
    assert first.temperature == 3.0
    assert torch.equal(model[1].weight, weights)


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_the_threshold_holds_the_rate_on_validation_images(images, resolved, rate):
    model = overconfident()
    rule = calibrate(model, images, PREPROCESS, resolved(false_alarm_rate=rate)).unknown
    logits, _ = outputs(model, images.val)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    below = (powers.max(axis=1) / powers.sum(axis=1) < rule.below - 1e-6).sum()
    assert rule.images == len(logits) == 24
    assert below == np.floor(rate * 25) - 1  # the threshold is the next score, which is not below itself


def test_too_few_validation_images_give_no_threshold(images, resolved, recorder):
    assert calibrate(overconfident(), images, PREPROCESS, resolved(false_alarm_rate=0.01)).unknown is None
    assert recorder.said[-1] == (
        "unknown images: no threshold, 24 validation images are too few for a 1 % false-alarm rate"
    )


def test_logits_that_are_not_finite_change_nothing(images, resolved):
    model = overconfident()
    model[1].bias += torch.nan
    confidence = calibrate(model, images, PREPROCESS, resolved())
    assert (confidence.temperature, confidence.unknown) == (1.0, None)


def test_the_temperature_is_kept_beside_the_weights(tmp_path):
    path = tmp_path / "deployed.safetensors"
    save_deployed(path, overconfident(), 1.25)
    assert folded_temperature(path) == 1.25
    save_deployed(path, overconfident(), float("nan"))
    with pytest.raises(DataError, match="NaN is not a JSON number"):
        folded_temperature(path)
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="no temperature"):
        folded_temperature(path)


def test_equal_weights_give_equal_files(tmp_path):
    paths = [tmp_path / f"{number}.safetensors" for number in range(9)]
    for path in paths:
        save_deployed(path, overconfident(), 1.25)
    assert len({path.read_bytes() for path in paths}) == 1
