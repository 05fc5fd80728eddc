"""Soft labels from neighbours: the graph and the smoothing against dense algebra, and when they are trusted."""

import numpy as np
import pytest
import torch

from tcs_edge.teachers import neighbours
from tcs_edge.teachers.neighbours import UNTRIED_SHARE, neighbour_graph, smoothed, soft_labels
from tcs_edge.teachers.probe import fit_linear_probe


def dense(graph):
    matrix = np.zeros((len(graph.neighbours),) * 2)
    np.put_along_axis(matrix, graph.neighbours.numpy(), graph.weights.numpy(), axis=1)
    return matrix


def arcs(count, seed=0):
    """A ring of six arcs with gaps between, whose classes alternate: no line parts them, neighbours know."""
    rng = np.random.default_rng(seed)
    arc = np.arange(count) % 6
    angle = (arc + rng.uniform(0.1, 0.9, count)) * np.pi / 3
    rows = np.column_stack([np.cos(angle), np.sin(angle), rng.normal(size=(count, 3)) * 0.02])
    return torch.tensor(rows, dtype=torch.float32), arc % 2


@pytest.mark.parametrize("at_once", [1, 700, 16_000_000])
def test_the_graph_holds_each_images_nearest_others(monkeypatch, at_once):
    monkeypatch.setattr(neighbours, "_SIMILARITIES_AT_ONCE", at_once)
    rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    unit = (rows / rows.norm(dim=1, keepdim=True)).double().numpy()
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    graph = neighbour_graph(rows, count=4)
    for image, found in enumerate(graph.neighbours.numpy()):
        nearest = np.argsort(-cosines[image])[:4]
        assert set(found) == set(nearest)
        weights = np.clip(cosines[image][found], 0, None) ** 3
        np.testing.assert_allclose(graph.weights[image], weights / weights.sum(), atol=1e-5)


def test_there_are_never_more_neighbours_than_other_images():
    assert neighbour_graph(torch.randn(3, 4)).neighbours.shape == (3, 2)


def test_smoothing_ends_where_the_linear_system_says():
    rows = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    said = torch.rand(30, 3, generator=torch.Generator().manual_seed(2))
    said = said / said.sum(dim=1, keepdim=True)
    graph, share = neighbour_graph(rows, count=5), 0.5
    expected = np.linalg.solve(np.eye(30) - share * dense(graph), (1 - share) * said.double().numpy())
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(smoothed(graph, said, share), expected, atol=1e-6)
    assert torch.equal(smoothed(graph, said, 0.0), said / said.sum(dim=1, keepdim=True))


def test_neighbours_are_heard_where_they_know_better_than_the_probe():
    rows, labels = arcs(400)
    labelled = np.arange(24)
    probe = fit_linear_probe(rows[labelled].numpy(), labels[labelled], 2)
    found = soft_labels(rows, labels, labelled, probe)
    assert found.share > 0
    right = (found.logits.argmax(dim=1).numpy() == labels).mean()
    assert right > probe.accuracy(rows.numpy(), labels) + 0.2


def test_neighbours_are_not_heard_where_they_mix_the_classes():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    rows = torch.tensor(rng.normal(size=(300, 16)), dtype=torch.float32)
    rows[:, 1:] *= 3  # one weak axis tells the classes apart, the neighbourhoods follow the others
    rows[:, 0] += torch.tensor(4.0 * labels)
    labelled = np.arange(100)
    probe = fit_linear_probe(rows[labelled].numpy(), labels[labelled], 2)
    found = soft_labels(rows, labels, labelled, probe)
    assert found.share == 0
    assert (found.logits.argmax(dim=1).numpy()[labelled] == labels[labelled]).all()


def test_one_label_per_class_cannot_be_held_out():
    rows, labels = arcs(60)
    labelled = np.array([0, 1])
    probe = fit_linear_probe(rows[labelled].numpy(), labels[labelled], 2)
    assert soft_labels(rows, labels, labelled, probe).share == UNTRIED_SHARE


def test_labels_that_are_not_named_as_known_are_never_read():
    rows, labels = arcs(80)
    labelled = np.arange(20)
    probe = fit_linear_probe(rows[labelled].numpy(), labels[labelled], 2)
    hidden = np.where(np.arange(80) < 20, labels, -1)
    assert torch.equal(
        soft_labels(rows, labels, labelled, probe).logits, soft_labels(rows, hidden, labelled, probe).logits
    )


def test_soft_labels_are_as_sure_on_average_as_what_they_were_made_from():
    rows, labels = arcs(400)
    labelled = np.arange(24)
    probe = fit_linear_probe(rows[labelled].numpy(), labels[labelled], 2, l2=0.1)
    found = soft_labels(rows, labels, labelled, probe)
    assert found.share > 0
    assert torch.isfinite(found.logits).all()
    said = torch.from_numpy(probe.logits(rows.numpy())).softmax(dim=1)
    said[labelled] = torch.eye(2)[labels[labelled]]
    sure = found.logits.softmax(dim=1).amax(dim=1).mean()
    assert float(sure) == pytest.approx(float(said.amax(dim=1).mean()), abs=1e-3)
