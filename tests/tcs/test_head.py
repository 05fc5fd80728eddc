"""Tests of the folded layer against the head and against the formula."""

import pytest
import torch

from tcs_edge.errors import ParityFailed
from tcs_edge.tcs.head import TcsHead, check_fold
from tcs_edge.tcs.selection import SelectionSchedule


@pytest.fixture
def head() -> TcsHead:
    torch.manual_seed(0)
    head = TcsHead(features=24, dims=16, classes=5, schedule=SelectionSchedule())
    with torch.no_grad():
        head.selection.weight.uniform_(-1, 2)
        head.selection.alive[::3] = False
    return head


def test_the_folded_layer_equals_the_formula(head):
    folded = head.fold()
    mask = torch.diag(head.selection.mask())
    weight = head.classifier.weight @ mask @ head.adapter.weight
    bias = head.classifier.bias + head.classifier.weight @ mask @ head.adapter.bias
    torch.testing.assert_close(folded.weight, weight)
    torch.testing.assert_close(folded.bias, bias)


def test_the_folded_layer_gives_the_logits_of_the_head(head):
    features = torch.randn(64, 24) * 10
    assert check_fold(head(features)[0], head.fold()(features)) <= 1e-5
    torch.testing.assert_close(head.fold()(features), head(features)[0], rtol=1e-4, atol=1e-4)


def test_a_wrong_fold_is_refused(head):
    folded = head.fold()
    with torch.no_grad():
        folded.weight[0, 0] += 0.01
    features = torch.randn(64, 24)
    with pytest.raises(ParityFailed, match="folding changed the logits"):
        check_fold(head(features)[0], folded(features))


def test_a_fold_with_nan_is_refused(head):
    folded = head.fold()
    with torch.no_grad():
        folded.bias[0] = float("nan")
    features = torch.randn(4, 24)
    with pytest.raises(ParityFailed):
        check_fold(head(features)[0], folded(features))
