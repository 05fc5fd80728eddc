"""Tests of the alignment score against one regression fit per left-out image."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from tcs_edge.search.ridge import PENALTIES, align

ROWS, COORDINATES, CLASSES = 18, 3, 4


def data(dim: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, dim) that are linear in coordinates (n, k) and labels (n,), plus noise."""
    rng = np.random.default_rng(dim)
    coordinates = rng.normal(size=(ROWS, COORDINATES)) * [3.0, 1.0, 0.2]
    labels = np.arange(ROWS) % CLASSES
    sources = np.hstack([coordinates, np.eye(CLASSES)[labels]])
    features = sources @ rng.normal(size=(COORDINATES + CLASSES, dim)) + 5.0
    return features + noise * rng.normal(size=features.shape), coordinates, labels


def refitted_errors(features: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """Errors of scikit-learn's Ridge, fitted again without each row; alpha is computed from all rows."""
    squares = np.linalg.svd(features - features.mean(axis=0), compute_uv=False) ** 2
    alpha = penalty * squares[squares > 1e-9].mean()
    return targets - cross_val_predict(Ridge(alpha=alpha, solver="svd"), features, targets, cv=LeaveOneOut())


@pytest.mark.parametrize("dim", [5, 40])
def test_scores_are_the_best_of_all_penalties(dim):
    features, coordinates, labels = data(dim)
    one_hot = np.eye(CLASSES)[labels]
    r2, accuracies = [], []
    means = np.array([np.delete(coordinates, row, axis=0).mean(axis=0) for row in range(ROWS)])
    for penalty in PENALTIES:
        errors = refitted_errors(features, coordinates, penalty)
        r2.append(1 - (errors**2).sum() / ((coordinates - means) ** 2).sum())
        predicted = one_hot - refitted_errors(features, one_hot, penalty)
        accuracies.append((predicted.argmax(axis=1) == labels).mean())
    found = align(features, coordinates, labels)
    assert found.r2 == pytest.approx(max(r2), abs=1e-6)
    assert found.accuracy == pytest.approx(max(accuracies))
    assert found.percent == pytest.approx(50 * (max(0, max(r2)) + max(accuracies)))


def test_noisier_features_have_lower_scores():
    scores = [align(*data(12, noise)).percent for noise in (0.01, 3.0, 300.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 95


@pytest.mark.parametrize("features", [np.ones((ROWS, 6)), np.zeros((ROWS, 40))])
def test_constant_features_have_no_alignment(features):
    _, coordinates, labels = data(6)
    found = align(features, coordinates, labels)
    assert found.r2 == pytest.approx(0, abs=1e-9)
    assert found.accuracy <= 0.5
    assert 0 <= found.percent <= 25


def test_score_is_independent_of_feature_scale():
    features, coordinates, labels = data(12)
    assert align(1e-3 * features, coordinates, labels).percent == pytest.approx(
        align(features, coordinates, labels).percent
    )
