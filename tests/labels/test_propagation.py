"""Tests of the neighbor graph and of the propagation, against dense linear algebra."""

import numpy as np
import pytest
import torch

from tcs_edge.labels import nearest as search
from tcs_edge.labels import propagation
from tcs_edge.labels.propagation import neighbor_graph, smoothed


def dense(graph):
    matrix = np.zeros((len(graph.neighbors),) * 2)
    np.put_along_axis(matrix, graph.neighbors.numpy(), graph.weights.numpy(), axis=1)
    return matrix


@pytest.mark.parametrize("at_once", [1, 700, 16_000_000])
def test_the_graph_holds_the_nearest_neighbors(monkeypatch, at_once):
    monkeypatch.setattr(search, "_SIMILARITIES_AT_ONCE", at_once)
    rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    unit = (rows / rows.norm(dim=1, keepdim=True)).double().numpy()
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    graph = neighbor_graph(rows, count=4)
    for image, found in enumerate(graph.neighbors.numpy()):
        nearest = np.argsort(-cosines[image])[:4]
        assert set(found) == set(nearest)
        weights = np.clip(cosines[image][found], 0, None) ** 3
        np.testing.assert_allclose(graph.weights[image], weights / weights.sum(), atol=1e-5)


def clusters(images, seed=0):
    """Rows (images, 24) around 12 centers."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(12, 24, generator=generator)
    return centers[torch.arange(images) % 12] + torch.randn(images, 24, generator=generator)


@pytest.mark.parametrize("at_once", [1, 50_000, 4_000_000])
def test_above_the_limit_most_of_the_nearest_neighbors_are_found(monkeypatch, at_once):
    rows = clusters(3000)
    exact = neighbor_graph(rows)
    monkeypatch.setattr(search, "EXACT_ROWS", 1000)
    monkeypatch.setattr(search, "_SIMILARITIES_AT_ONCE", at_once if at_once > 1 else 3000)
    found = neighbor_graph(rows)
    same = (found.neighbors[:, :, None] == exact.neighbors[:, None, :]).any(dim=2)
    assert same.float().mean() > 0.95
    assert (found.neighbors != torch.arange(3000)[:, None]).all(), "no image is its own neighbor"
    np.testing.assert_allclose(found.weights.sum(dim=1), 1, atol=1e-5)
    assert torch.equal(found.neighbors, neighbor_graph(rows).neighbors)


@pytest.mark.parametrize("rows", [torch.ones(200, 3), torch.zeros(200, 3), torch.eye(4)[torch.arange(200) % 4]])
def test_above_the_limit_equal_images_are_each_others_neighbors(monkeypatch, rows):
    monkeypatch.setattr(search, "EXACT_ROWS", 100)
    found = neighbor_graph(rows, count=60).neighbors
    assert found.shape == (200, 60)
    assert all(len(set(row)) == 60 and image not in row for image, row in enumerate(found.tolist()))


def test_propagation_in_parts_equals_propagation_at_once(monkeypatch):
    graph = neighbor_graph(clusters(300))
    said = torch.rand(300, 4, generator=torch.Generator().manual_seed(2))
    whole = smoothed(graph, said, 0.8)
    monkeypatch.setattr(propagation, "_ROWS_AT_ONCE", 64)
    torch.testing.assert_close(smoothed(graph, said, 0.8), whole)


def test_the_number_of_neighbors_is_at_most_the_other_images():
    assert neighbor_graph(torch.randn(3, 4)).neighbors.shape == (3, 2)


def test_propagation_converges_to_the_solution_of_the_linear_system():
    rows = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    said = torch.rand(30, 3, generator=torch.Generator().manual_seed(2))
    said = said / said.sum(dim=1, keepdim=True)
    graph, share = neighbor_graph(rows, count=5), 0.5
    expected = np.linalg.solve(np.eye(30) - share * dense(graph), (1 - share) * said.double().numpy())
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(smoothed(graph, said, share), expected, atol=1e-6)
    assert torch.equal(smoothed(graph, said, 0.0), said / said.sum(dim=1, keepdim=True))
