"""Tests of the normalization of whole batches."""

import numpy as np
import pytest
import torch

from tcs_edge.data import Preprocess, normalize
from tcs_edge.data.normalize import Normalizer

PREP = Preprocess(24)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_batch_is_normalized_to_the_bits_of_single_images(monkeypatch, far, channels_last):
    monkeypatch.setattr(normalize, "_far", lambda _device: far)
    views = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    views[0] = np.arange(24 * 24 * 3).reshape(24, 24, 3) % 256
    found = Normalizer(PREP, channels_last=channels_last)(torch.from_numpy(views))
    assert np.array_equal(found.numpy(), np.stack([PREP.normalize(view) for view in views]))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert found.is_contiguous(memory_format=layout)
