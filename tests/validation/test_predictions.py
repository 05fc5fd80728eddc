"""Predicted class and confidence per image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from tcs_edge.validation.predictions import Predictions


def test_confidence_is_the_softmax_of_the_largest_logit():
    logits = np.random.default_rng(0).normal(0, 20, (50, 7)).astype(np.float32)
    found = Predictions.of(logits, np.arange(50) % 7)
    assert found.labels == tuple(range(7)) * 7 + (0,)
    assert found.predicted == tuple(logits.argmax(axis=1).tolist())
    assert found.confidences == pytest.approx(softmax(logits.astype(np.float64), axis=1).max(axis=1), abs=1e-6)


def test_nonfinite_logits_have_no_prediction():
    logits = np.array([[1.0, np.nan], [np.inf, 0.0], [0.0, 1e4]])
    found = Predictions.of(logits, np.array([0, 0, 1]))
    assert found.predicted == (None, None, 1)
    assert found.confidences == (None, None, 1.0)
