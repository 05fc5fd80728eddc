"""Calibrate a trained student on the validation images: temperature, and threshold for unknown images."""

from __future__ import annotations

import logging

import numpy as np
from torch import nn

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.loader import image_batches
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.specs.confidence import Confidence, UnknownRule
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.training.fold import divide_logits
from tcs_edge.validation.confidence import fit_temperature, unknown_threshold
from tcs_edge.validation.metrics import expected_calibration_error, top1_confidences

logger = logging.getLogger(__name__)


def calibrate(
    model: nn.Module,
    images: ImageSet,
    preprocess: Preprocess,
    options: ResolvedConfig,
    folded: float | None = None,
) -> Confidence:
    """Fold a temperature into the last layer of `model`, and set the threshold for unknown images.

    The class of an image stays the same, and the model takes no more time.

    Args:
        model: deployed model, (B, 3, S, S) -> (B, classes); its last layer changes in place.
        folded: temperature that is already in the weights; None fits it.

    Raises:
        DataError: a validation image is not readable.
    """
    logits, labels = _outputs(model, images, preprocess, options)
    finite = np.isfinite(logits).all(axis=1)
    logits, labels = logits[finite], labels[finite]
    if folded is None:
        folded = fit_temperature(logits, labels)
        divide_logits(model, folded)
        logits = logits / folded
    rule = _unknown_rule(logits, options.false_alarm_rate)
    if len(labels):
        after = expected_calibration_error(logits, labels)
        before = expected_calibration_error(logits * folded, labels)
        logger.info(
            f"calibration: temperature {folded:.2f}, validation ECE {100 * before:.1f} % before, "
            f"{100 * after:.1f} % after"
        )
    if rule is None:
        logger.info(
            f"unknown images: no threshold, {len(labels)} validation images are too few for a "
            f"{100 * options.false_alarm_rate:g} % false-alarm rate"
        )
    return Confidence(temperature=folded, unknown=rule)


def _outputs(
    model: nn.Module, images: ImageSet, preprocess: Preprocess, options: ResolvedConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits float32 (N, classes) and labels int (N,) of the validation images."""
    logits, labels = [], []
    with TorchRunner(model) as runner:
        for pixels, own in image_batches(images.val, preprocess, options.batch_size, options.workers):
            logits.append(runner.run(pixels))
            labels.append(own)
    return np.concatenate(logits), np.concatenate(labels)


def _unknown_rule(logits: np.ndarray, false_alarm_rate: float) -> UnknownRule | None:
    below = unknown_threshold(top1_confidences(logits), false_alarm_rate) if len(logits) else None
    return None if below is None else UnknownRule(below=below, false_alarm_rate=false_alarm_rate, images=len(logits))
