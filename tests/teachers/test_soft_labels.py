"""Soft labels: whose answers they are, when neighbours have a say, and that nothing hidden is read."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.teachers.neighbours import neighbour_graph, smoothed
from tcs_edge.teachers.probe import fit_linear_probe
from tcs_edge.teachers.soft_labels import UNTRIED_SHARE, _as_sure_as, _whose, soft_labels


def clusters(strength, seed, count=300, width=8):
    """Rows (count, width) whose first axis tells two classes apart, the better the larger `strength`."""
    labels = np.arange(count) % 2
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    rows[:, 0] += strength * torch.tensor(2.0 * labels - 1)
    return rows, labels


def test_neighbours_are_heard_where_they_know_better_than_the_probe():
    gains = []
    for seed in range(4):
        rows, labels = clusters(2.0, seed, width=20)
        labelled = np.arange(8)
        probe = fit_linear_probe(rows[labelled].numpy(), labels[labelled], 2)
        found = soft_labels({"teacher": rows}, labels, labelled, 2)
        assert found.share > 0
        right = (found.logits.argmax(dim=1).numpy() == labels).mean()
        gains.append(right - probe.accuracy(rows.numpy(), labels))
    assert min(gains) > 0
    assert np.mean(gains) > 0.03


def test_soft_labels_are_what_one_linear_layer_says_of_the_rows():
    rows, labels = clusters(2.0, 0)
    found = soft_labels({"teacher": rows}, labels, np.arange(8), 2)
    assert found.share > 0
    np.testing.assert_allclose(found.logits, rows.numpy() @ found.probe.weight.T + found.probe.bias, rtol=1e-5)


def test_neighbours_are_not_heard_where_they_mix_the_classes():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    rows = torch.tensor(rng.normal(size=(300, 16)), dtype=torch.float32)
    rows[:, 1:] *= 3  # one weak axis tells the classes apart, the neighbourhoods follow the others
    rows[:, 0] += torch.tensor(4.0 * labels)
    labelled = np.arange(100)
    found = soft_labels({"teacher": rows}, labels, labelled, 2)
    assert found.share == 0
    assert (found.logits.argmax(dim=1).numpy()[labelled] == labels[labelled]).all()


def test_one_label_per_class_cannot_be_held_out():
    rows, labels = clusters(1.0, 1, count=60)
    labelled = np.array([0, 1])
    assert soft_labels({"teacher": rows}, labels, labelled, 2).share == UNTRIED_SHARE


def test_labels_that_are_not_named_as_known_are_never_read():
    rows, labels = clusters(1.0, 1, count=80)
    labelled = np.arange(20)
    hidden = np.where(np.arange(80) < 20, labels, -1)
    found = [soft_labels({"teacher": rows}, known, labelled, 2).logits for known in (labels, hidden)]
    assert torch.equal(*found)


def test_soft_labels_are_as_sure_on_average_as_what_they_were_made_from():
    rows, labels = clusters(2.0, 1, count=400)
    labelled = np.arange(24)
    probe = fit_linear_probe(rows[labelled].numpy(), labels[labelled], 2)
    found = soft_labels({"teacher": rows}, labels, labelled, 2)
    assert found.share > 0
    assert torch.isfinite(found.logits).all()
    said = torch.from_numpy(probe.logits(rows.numpy())).softmax(dim=1)
    said[labelled] = torch.eye(2)[labels[labelled]]
    spread = _as_sure_as(said, smoothed(neighbour_graph(rows), said, found.share))
    assert float(spread.amax(dim=1).mean()) == pytest.approx(float(said.amax(dim=1).mean()), abs=1e-3)
    sure = found.logits.softmax(dim=1).amax(dim=1).mean()  # the probe fitted on that comes near it
    assert float(sure) == pytest.approx(float(said.amax(dim=1).mean()), abs=0.02)


@pytest.mark.parametrize("neighbours", [True, False])
@pytest.mark.parametrize(("teacher", "student", "answers"), [(3.0, 0.0, "teacher"), (0.0, 3.0, "student")])
def test_whoever_finds_more_held_out_labels_again_answers(teacher, student, answers, neighbours):
    (known, labels), (own, _) = clusters(teacher, 1), clusters(student, 2)
    found = soft_labels({"teacher": known, "student": own}, labels, np.arange(40), 2, neighbours)
    assert found.source == answers
    other = "student" if answers == "teacher" else "teacher"
    assert found.found_again[answers] > 0.85 > found.found_again[other] + 0.1
    assert (found.logits.argmax(dim=1).numpy() == labels).mean() > 0.9


def test_what_is_found_again_counts_each_label_once_and_only_when_it_was_held_out():
    rows, labels = clusters(0.7, 3, count=60)
    labelled = np.arange(20)
    order = np.argsort(labels[labelled], kind="stable")
    fold_of = np.empty(20, int)
    fold_of[order] = np.arange(20) % 5
    right = 0
    for fold in range(5):
        known, held_out = labelled[fold_of != fold], labelled[fold_of == fold]
        probe = fit_linear_probe(rows[known].numpy(), labels[known], 2)
        right += (probe.logits(rows[held_out].numpy()).argmax(axis=1) == labels[held_out]).sum()
    found = soft_labels({"teacher": rows, "student": torch.zeros_like(rows)}, labels, labelled, 2, neighbours=False)
    assert found.found_again["teacher"] == right / 20


def test_the_first_source_answers_where_they_tie_or_nothing_can_be_held_out():
    rows, labels = clusters(3.0, 4)
    tie = soft_labels({"teacher": rows, "student": rows.clone()}, labels, np.arange(40), 2)
    assert tie.source == "teacher"
    untried = soft_labels({"teacher": rows, "student": 2 * rows}, labels, np.array([0, 1]), 2)
    assert (untried.source, untried.share, untried.found_again) == ("teacher", UNTRIED_SHARE, {})


def test_a_few_labels_more_are_no_reason_to_ask_another_than_the_first():
    (known, labels), (own, _) = clusters(1.0, 1), clusters(1.1, 2)
    found = soft_labels({"teacher": known, "student": own}, labels, np.arange(40), 2)
    assert found.found_again["teacher"] < found.found_again["student"] < found.found_again["teacher"] + 0.2
    assert found.source == "teacher"


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
def test_another_answers_where_it_is_better_by_more_than_one_standard_error(won, lost, both):
    first = np.array([False] * won + [True] * lost + [True] * both, bool)
    other = np.array([True] * won + [False] * lost + [True] * both, bool)
    gain = other.astype(float) - first
    # of the mean gain, were both equally good
    error = np.sqrt(np.mean(gain**2) / len(gain)) if len(gain) else 0.0
    better = won > lost and gain.mean() > error + 1e-9
    assert _whose({"teacher": first, "student": other}) == ("student" if better else "teacher")


def test_without_neighbours_the_probe_says_it_all():
    rows, labels = clusters(1.0, 5)
    found = soft_labels({"teacher": rows}, labels, np.arange(50), 2, neighbours=False)
    probe = fit_linear_probe(rows[:50].numpy(), labels[:50], 2)
    assert (found.share, found.found_again) == (0.0, {})
    np.testing.assert_array_equal(found.logits, probe.logits(rows.numpy()))
