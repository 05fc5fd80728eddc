"""Tests of the soft labels: source weights, propagation shares, and that hidden labels are not read."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.labels.linear_probe import fit_linear_probe
from tcs_edge.labels.propagation import neighbor_graph, smoothed
from tcs_edge.labels.soft_labels import UNTRIED_SHARE, _folds, _sharpened, _weights, soft_labels


def clusters(strength, seed, count=300, width=8):
    """Return rows (count, width) and labels; the first axis separates two classes by `strength`."""
    labels = np.arange(count) % 2
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    rows[:, 0] += strength * torch.tensor(2.0 * labels - 1)
    return rows, labels


def test_propagation_is_used_where_it_improves_the_probe():
    gains = []
    for seed in range(4):
        rows, labels = clusters(2.0, seed, width=20)
        labeled = np.arange(8)
        probe = fit_linear_probe(rows[labeled].numpy(), labels[labeled], 2)
        found = soft_labels({"teacher": rows}, labels, labeled, 2)
        assert found.shares["teacher"] > 0
        right = (found.logits.argmax(dim=1).numpy() == labels).mean()
        gains.append(right - probe.accuracy(rows.numpy(), labels))
    assert min(gains) > 0
    assert np.mean(gains) > 0.03


def test_soft_labels_are_the_output_of_one_linear_layer():
    rows, labels = clusters(2.0, 0)
    found = soft_labels({"teacher": rows}, labels, np.arange(8), 2)
    assert found.shares["teacher"] > 0
    np.testing.assert_allclose(found.logits, rows.numpy() @ found.probe.weight.T + found.probe.bias, rtol=1e-5)


def test_propagation_is_not_used_where_it_mixes_the_classes():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    rows = torch.tensor(rng.normal(size=(300, 16)), dtype=torch.float32)
    rows[:, 1:] *= 3  # a weak axis separates the classes; the others determine the neighbors
    rows[:, 0] += torch.tensor(4.0 * labels)
    labeled = np.arange(100)
    found = soft_labels({"teacher": rows}, labels, labeled, 2)
    assert found.shares["teacher"] == 0
    assert (found.logits.argmax(dim=1).numpy()[labeled] == labels[labeled]).all()


def test_one_label_per_class_cannot_be_held_out():
    rows, labels = clusters(1.0, 1, count=60)
    labeled = np.array([0, 1])
    assert soft_labels({"teacher": rows}, labels, labeled, 2).shares == {"teacher": UNTRIED_SHARE}


def test_hidden_labels_are_never_read():
    rows, labels = clusters(1.0, 1, count=80)
    labeled = np.arange(20)
    hidden = np.where(np.arange(80) < 20, labels, -1)
    found = [soft_labels({"teacher": rows}, known, labeled, 2).logits for known in (labels, hidden)]
    assert torch.equal(*found)


def test_soft_labels_keep_the_mean_confidence_of_the_probe():
    rows, labels = clusters(2.0, 1, count=400)
    labeled = np.arange(24)
    probe = fit_linear_probe(rows[labeled].numpy(), labels[labeled], 2)
    found = soft_labels({"teacher": rows}, labels, labeled, 2)
    assert found.shares["teacher"] > 0
    assert torch.isfinite(found.logits).all()
    said = torch.from_numpy(probe.logits(rows.numpy())).softmax(dim=1)
    said[labeled] = torch.eye(2)[labels[labeled]]
    spread = _sharpened(said, smoothed(neighbor_graph(rows), said, found.shares["teacher"]))
    assert float(spread.amax(dim=1).mean()) == pytest.approx(float(said.amax(dim=1).mean()), abs=1e-3)
    sure = found.logits.softmax(dim=1).amax(dim=1).mean()  # the probe fitted on them comes close
    assert float(sure) == pytest.approx(float(said.amax(dim=1).mean()), abs=0.02)


@pytest.mark.parametrize("neighbors", [True, False])
@pytest.mark.parametrize(("teacher", "student", "better"), [(3.0, 0.0, "teacher"), (0.0, 3.0, "student")])
def test_the_source_with_better_heldout_accuracy_gets_more_weight(teacher, student, better, neighbors):
    (rows, labels), (own, _) = clusters(teacher, 1), clusters(student, 2)
    found = soft_labels({"teacher": rows, "student": own}, labels, np.arange(40), 2, neighbors)
    other = "student" if better == "teacher" else "teacher"
    assert found.heldout_accuracy[better] > 0.85 > found.heldout_accuracy[other] + 0.1
    assert found.weights[better] > 0.9
    assert (found.logits.argmax(dim=1).numpy() == labels).mean() > 0.9


def test_two_sources_together_are_more_accurate_than_each_alone():
    gains = []
    for seed in range(4):
        (rows, labels), (own, _) = clusters(1.0, seed), clusters(1.0, 10 + seed)
        alone = [soft_labels({"teacher": one}, labels, np.arange(40), 2) for one in (rows, own)]
        both = soft_labels({"teacher": rows, "student": own}, labels, np.arange(40), 2)
        right = [(each.logits.argmax(dim=1).numpy() == labels).mean() for each in (*alone, both)]
        gains.append(right[2] - max(right[:2]))
    assert np.mean(gains) > 0.02


def test_the_logits_are_the_weighted_average_of_the_sources():
    (rows, labels), (own, _) = clusters(1.0, 1), clusters(1.5, 2)
    sources = {"teacher": rows, "student": own}
    both = soft_labels(sources, labels, np.arange(40), 2)
    alone = {name: soft_labels({name: one}, labels, np.arange(40), 2) for name, one in sources.items()}
    assert sum(both.weights.values()) == pytest.approx(1)
    expected = sum(both.weights[name] * one.logits for name, one in alone.items())
    torch.testing.assert_close(both.logits, expected)
    assert both.shares == {name: one.shares[name] for name, one in alone.items()}
    np.testing.assert_array_equal(both.probe.weight, alone["teacher"].probe.weight)


def test_heldout_accuracy_counts_each_label_once():
    rows, labels = clusters(0.7, 3, count=60)
    labeled = np.arange(20)
    order = np.argsort(labels[labeled], kind="stable")
    fold_of = np.empty(20, int)
    fold_of[order] = np.arange(20) % 5
    right = 0
    for fold in range(5):
        known, held_out = labeled[fold_of != fold], labeled[fold_of == fold]
        probe = fit_linear_probe(rows[known].numpy(), labels[known], 2)
        right += (probe.logits(rows[held_out].numpy()).argmax(axis=1) == labels[held_out]).sum()
    found = soft_labels({"teacher": rows, "student": torch.zeros_like(rows)}, labels, labeled, 2, neighbors=False)
    assert found.heldout_accuracy["teacher"] == right / 20


def test_sources_have_equal_weights_without_held_out_labels():
    rows, labels = clusters(3.0, 4)
    found = soft_labels({"teacher": rows, "student": rows**2}, labels, np.array([0, 1]), 2)
    assert (found.weights, found.heldout_accuracy) == ({"teacher": 0.5, "student": 0.5}, {})
    assert found.shares == {"teacher": UNTRIED_SHARE, "student": UNTRIED_SHARE}


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 12))
def test_weights_are_proportional_to_the_squared_accuracy_above_chance(first, second, classes):
    weights = _weights({"teacher": first, "student": second}, classes)
    assert sum(weights.values()) == pytest.approx(1)
    beyond = {"teacher": max(0.0, first - 1 / classes), "student": max(0.0, second - 1 / classes)}
    if max(beyond.values()) > 1e-6:
        ours, theirs = weights["teacher"] * beyond["student"] ** 2, weights["student"] * beyond["teacher"] ** 2
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_a_source_that_predicts_the_larger_class_gets_no_weight():
    (rows, _), labels = clusters(0.0, 1), (np.arange(300) % 10 == 0).astype(int)
    own = rows.clone()
    own[:, 0] += 8.0 * torch.tensor(labels)
    rows *= 1e-3  # so small that a probe predicts the larger class for all
    found = soft_labels({"teacher": rows, "student": own}, labels, np.arange(100), 2, neighbors=False)
    assert found.heldout_accuracy["teacher"] == pytest.approx(0.5)
    assert found.weights["student"] == pytest.approx(1)


def test_labels_are_held_out_despite_a_class_of_one_label():
    rows, labels = clusters(3.0, 2)
    labels = np.where(np.arange(300) == 7, 2, labels)
    own, _ = clusters(0.0, 3)
    found = soft_labels({"teacher": rows, "student": own}, labels, np.arange(40), 3)
    assert found.heldout_accuracy["teacher"] > 0.9
    assert found.weights["teacher"] > 0.9


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_every_fold_has_every_class_of_several_labels(labels):
    counts = np.bincount(labels, minlength=5)
    fold_of = _folds(np.array(labels))
    for label in np.flatnonzero(counts):
        held = {int(fold) for fold in fold_of[np.array(labels) == label]}
        assert held == (set(range(fold_of.max() + 1)) if counts[label] > 1 else {-1})
    assert fold_of.max() + 1 == (min(5, counts[counts > 1].min()) if (counts > 1).any() else 0)


def test_without_propagation_the_probe_gives_the_soft_labels():
    rows, labels = clusters(1.0, 5)
    found = soft_labels({"teacher": rows}, labels, np.arange(50), 2, neighbors=False)
    probe = fit_linear_probe(rows[:50].numpy(), labels[:50], 2)
    assert (found.shares, found.heldout_accuracy) == ({"teacher": 0.0}, {})
    np.testing.assert_array_equal(found.logits, probe.logits(rows.numpy()))
