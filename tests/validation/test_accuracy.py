"""Accuracy and its confidence interval."""

from __future__ import annotations

import numpy as np
import pytest

from tcs_edge.errors import DataError
from tcs_edge.validation.accuracy import Accuracy, is_correct


def test_accuracy_counts_images_whose_label_has_the_highest_logit():
    accuracy = Accuracy.of(np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]]), np.array([0, 1, 1]))
    assert (accuracy.correct, accuracy.total) == (2, 3)
    assert accuracy.value == pytest.approx(2 / 3)
    assert accuracy.low < accuracy.value < accuracy.high


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_image_with_a_nonfinite_logit_is_wrong(bad):
    assert is_correct(np.array([[bad, 0.0], [1.0, 0.0]]), np.array([0, 0])).tolist() == [False, True]


@pytest.mark.parametrize(("logits", "labels"), [(np.empty((0, 2)), []), (np.ones((2, 2)), [0])])
def test_no_images_or_too_few_labels_are_refused(logits, labels):
    with pytest.raises(DataError):
        Accuracy.of(logits, np.array(labels, dtype=np.int64))
