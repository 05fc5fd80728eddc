"""The check of int8 models covers an embedding too."""

from __future__ import annotations

import numpy as np
import pytest

from tcs_edge.data import Preprocess
from tcs_edge.quantization.accuracy_check import AccuracyCheck, answers
from tcs_edge.runtimes.base import ClosingRunner

STEPS = Preprocess(16, crop_pct=1.0)


class Embedding(ClosingRunner):
    """Linear model with an embedding, and noise on it alone."""

    name, precision, labels, embedding_size = "onnxruntime-int8", "int8", ("a", "b"), 6

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng(0)
        means = images.mean(axis=(2, 3))
        logits = means @ draw.standard_normal((3, 2)).astype(np.float32)
        embedding = means @ draw.standard_normal((3, 6)).astype(np.float32)
        return logits, embedding + self.noise * draw.standard_normal(embedding.shape).astype(np.float32)


@pytest.mark.parametrize(("noise", "failed"), [(0.0, ()), (1.0, ("embedding, signal to noise",))])
def test_a_noisy_embedding_fails_the_check_of_int8(noise, failed):
    pixels = np.random.default_rng(1).integers(0, 256, (200, 1, 1, 3)).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (200, 16, 16, 3))
    logits, embeddings = answers(Embedding(), pixels, STEPS)
    labels = logits.argmax(axis=1).astype(np.int64)
    check = AccuracyCheck(pixels, labels, logits, STEPS, 0.5, embeddings)
    found = check.grade(Embedding(noise), ()).failures
    assert found == () if not failed else set(failed) <= set(found)
    assert all("embedding" in name for name in found)
