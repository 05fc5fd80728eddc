from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tcs_edge.labels import linear_probe
from tcs_edge.labels.linear_probe import fit_linear_probe


def _blobs(count: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Three Gaussian classes in 8 dimensions, far from the origin."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(3, 8)) * 2 + 5
    labels = rng.integers(0, 3, count)
    return centers[labels] + rng.normal(size=(count, 8)) * spread, labels


def test_probe_equals_logistic_regression_of_scikit_learn() -> None:
    x, y = _blobs(300, 0, spread=3.0)
    l2 = 0.01
    mean = x.mean(axis=0)
    scale = np.sqrt(((x - mean) ** 2).mean())
    reference = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-8, max_iter=1000).fit((x - mean) / scale, y)
    probe = fit_linear_probe(x, y, l2=l2)
    expected = reference.predict_proba((x - mean) / scale)
    logits = probe.logits(x)
    got = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert np.abs(got / got.sum(axis=1, keepdims=True) - expected).max() < 2e-3


def test_probe_on_probabilities_equals_scikit_learn_on_weighted_copies() -> None:
    x, _ = _blobs(200, 0, spread=3.0)
    wanted = np.random.default_rng(5).dirichlet([1.0, 0.5, 2.0], len(x))
    l2 = 0.01
    mean = x.mean(axis=0)
    scaled = (x - mean) / np.sqrt(((x - mean) ** 2).mean())
    reference = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-8, max_iter=1000)
    reference.fit(np.repeat(scaled, 3, axis=0), np.tile(np.arange(3), len(x)), sample_weight=wanted.ravel())
    logits = fit_linear_probe(x, wanted, l2=l2).logits(x)
    got = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert np.abs(got / got.sum(axis=1, keepdims=True) - reference.predict_proba(scaled)).max() < 2e-3


def test_probe_learns_labels_but_not_shuffled_ones() -> None:
    (x, y), (xv, yv) = _blobs(200, 0), _blobs(200, 1)
    assert fit_linear_probe(x.astype(np.float16), y).accuracy(xv.astype(np.float16), yv) > 0.9
    noise = np.random.default_rng(0).permutation(y)
    assert fit_linear_probe(x, noise).accuracy(xv, yv) < 0.6


def test_probe_does_not_depend_on_the_scale_of_the_features() -> None:
    (x, y), (xv, yv) = _blobs(200, 0, 3.0), _blobs(200, 1, 3.0)
    scaled = fit_linear_probe(100 * x, y).accuracy(100 * xv, yv)
    assert fit_linear_probe(x, y).accuracy(xv, yv) == pytest.approx(scaled, abs=0.011)


def test_probe_does_not_predict_a_class_without_training_rows() -> None:
    x, y = _blobs(50, 0)
    assert fit_linear_probe(x, np.zeros_like(y), classes=2).accuracy(x, np.ones_like(y)) == 0.0


def test_accuracy_of_no_rows_is_refused() -> None:
    x, y = _blobs(5, 0)
    with pytest.raises(ValueError, match="no rows"):
        fit_linear_probe(x, y).accuracy(x[:0], y[:0])


@pytest.mark.parametrize("soft", [False, True])
def test_a_fit_in_parts_equals_the_fit_at_once(monkeypatch, soft) -> None:
    x, y = _blobs(500, 0, spread=3.0)
    wanted = np.random.default_rng(5).dirichlet([1.0, 0.5, 2.0], len(x)) if soft else y
    whole = fit_linear_probe(x.astype(np.float16), wanted)
    monkeypatch.setattr(linear_probe, "ROWS_AT_ONCE", 64)
    parts = fit_linear_probe(x.astype(np.float16), wanted)
    np.testing.assert_allclose(parts.logits(x), whole.logits(x), atol=2e-2)
    assert (parts.logits(x).argmax(axis=1) == whole.logits(x).argmax(axis=1)).mean() > 0.995
