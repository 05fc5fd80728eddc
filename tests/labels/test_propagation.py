"""Tests of the neighbor graph and of the propagation, against dense linear algebra."""

import numpy as np
import pytest
import torch

from tcs_edge.labels import propagation
from tcs_edge.labels.propagation import neighbor_graph, smoothed


def dense(graph):
    matrix = np.zeros((len(graph.neighbors),) * 2)
    np.put_along_axis(matrix, graph.neighbors.numpy(), graph.weights.numpy(), axis=1)
    return matrix


@pytest.mark.parametrize("at_once", [1, 700, 16_000_000])
def test_the_graph_holds_the_nearest_neighbors(monkeypatch, at_once):
    monkeypatch.setattr(propagation, "_SIMILARITIES_AT_ONCE", at_once)
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
