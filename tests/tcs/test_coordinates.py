"""Tests of the coordinates against scikit-learn's PCA."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from tcs_edge.errors import DataError
from tcs_edge.tcs.coordinates import Moments, coordinates_of, fit_coordinates, random_axes


def features(images: int, dims: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dims, dims, generator=generator)
    return torch.randn(images, dims, generator=generator) @ mixing + 5.0


def test_axes_and_scores_equal_pca_of_scikit_learn():
    data = features(200, 12)
    coordinates = fit_coordinates(data.split(33), dims=5)
    reference = PCA(n_components=5).fit(data.double().numpy())

    overlap = np.abs((coordinates.axes.T.numpy() * reference.components_).sum(axis=1))
    np.testing.assert_allclose(overlap, 1.0, atol=1e-9)
    np.testing.assert_allclose(coordinates.eigenvalues[:5], reference.explained_variance_ * 199 / 200)
    scores = np.abs(reference.transform(data.double().numpy())) / coordinates.scale
    np.testing.assert_allclose(np.abs(coordinates.transform(data).numpy()), scores, rtol=1e-4, atol=1e-5)
    assert coordinates.explained_variance == pytest.approx(reference.explained_variance_ratio_.sum())


def test_scale_is_the_rms_of_centered_features():
    data = features(100, 8)
    centered = data.double() - data.double().mean(dim=0)
    assert fit_coordinates([data]).scale == pytest.approx(float(centered.square().mean().sqrt()))


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, 59), unique=True, max_size=6), seed=st.integers(0, 1000))
def test_merged_moments_do_not_depend_on_the_batches(cuts, seed):
    data = features(60, 4, seed)
    edges = [0, *sorted(cuts), 60]
    parts = [Moments.of(data[start:end]) for start, end in pairwise(edges)]
    merged = parts[-1]
    for part in reversed(parts[:-1]):
        merged = part.merge(merged)
    whole = Moments.of(data)
    assert merged.count == whole.count
    torch.testing.assert_close(merged.mean, whole.mean)
    torch.testing.assert_close(merged.scatter, whole.scatter)


def test_merging_is_numerically_stable_far_from_the_origin():
    data = features(400, 3).double() + 1e6
    merged = Moments.of(data[:100]).merge(Moments.of(data[100:]))
    expected = np.cov(data.numpy().T, bias=True) * 400
    np.testing.assert_allclose(merged.scatter, expected, rtol=1e-6)


def test_n_images_give_at_most_n_minus_one_axes():
    coordinates = fit_coordinates([features(7, 32)], dims=20)
    assert coordinates.dims == 6
    assert torch.isfinite(coordinates.transform(features(3, 32, seed=1))).all()


def test_axes_do_not_depend_on_the_order_of_images():
    data = features(50, 6)
    forward, backward = fit_coordinates([data], 3), fit_coordinates([data.flip(0)], 3)
    torch.testing.assert_close(forward.axes, backward.axes)


def test_random_axes_are_orthonormal_and_keep_the_scale():
    coordinates = fit_coordinates([features(80, 10)], dims=4)
    control = random_axes(coordinates, torch.Generator().manual_seed(1))
    torch.testing.assert_close(control.axes.T @ control.axes, torch.eye(4, dtype=torch.float64))
    assert control.scale == coordinates.scale
    assert not torch.allclose(control.axes, coordinates.axes)


def test_one_image_and_constant_features_are_refused():
    with pytest.raises(DataError, match="at least 2 images"):
        fit_coordinates([features(1, 4)])
    with pytest.raises(DataError, match="same feature for every image"):
        coordinates_of(Moments.of(torch.ones(10, 4)))
