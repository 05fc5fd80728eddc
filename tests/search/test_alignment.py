"""Tests of the search by alignment: students with synthetic features, and the sample of images."""

from __future__ import annotations

import numpy as np
import pytest

from tcs_edge.data.images import UNLABELED, ImageSet, Split
from tcs_edge.errors import MissingError
from tcs_edge.models.candidates import Candidate
from tcs_edge.search.alignment import Sample, by_alignment, draw_sample
from tcs_edge.teachers.features import Features

ROWS, CLASSES, DIMS = 60, 3, 8
ALIGNED = Candidate("aligned", "cnn", 1.0, 20, 10, top1=50.0)
NOISY = Candidate("noisy", "cnn", 1.0, 20, 10, top1=90.0)
ABSENT = Candidate("absent", "cnn", 1.0, 20, 10, top1=99.0)


def split(labels: np.ndarray) -> Split:
    pixels = np.zeros((len(labels), 4, 4), np.uint8)
    return Split(pixels, labels, tuple(f"{row:03d}" for row in range(len(labels))))


@pytest.fixture
def sample() -> Sample:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, ROWS)
    coordinates = rng.normal(size=(ROWS, DIMS)).astype(np.float32)
    coordinates[:, :CLASSES] += 4 * np.eye(CLASSES)[labels]
    return Sample(split(labels), coordinates)


def features_of(sample: Sample, candidate: Candidate) -> np.ndarray:
    rng = np.random.default_rng(1)
    if candidate is ABSENT:
        raise MissingError("its weights are not on this machine")
    noise = rng.normal(size=(ROWS, 20))
    return sample.coordinates @ rng.normal(size=(DIMS, 20)) + 0.1 * noise if candidate is ALIGNED else noise


def test_student_with_aligned_features_ranks_above_noise_regardless_of_table(sample):
    found = by_alignment([NOISY, ALIGNED], sample, lambda candidate: features_of(sample, candidate))
    assert found["aligned"].percent > 90
    assert found["noisy"].percent < 40
    assert {result.search for result in found.values()} == {"alignment"}
    assert f"leave-one-out on {ROWS} training images" in found["aligned"].how


def test_student_without_weights_gets_table_estimate_with_reason(sample):
    found = by_alignment([ABSENT, NOISY], sample, lambda candidate: features_of(sample, candidate))
    absent = found["absent"]
    assert (absent.search, absent.percent) == ("table", 99.0)
    assert absent.how.endswith("(not compared on the images: its weights are not on this machine)")
    assert absent.depth < found["noisy"].depth, "figures of another scale must rank below"


def image_set(labels: np.ndarray) -> tuple[ImageSet, Features]:
    rng = np.random.default_rng(2)
    train = split(labels)
    images = ImageSet("synthetic", ("a", "b", "c"), train, train, train, "fingerprint")
    features = rng.normal(size=(len(labels), 16)).astype(np.float16)
    return images, Features(features, features, "key", None, 0, 0.0)  # type: ignore[arg-type]


def test_sample_has_labeled_images_only_with_their_coordinates():
    labels = np.where(np.arange(ROWS) % 4, np.arange(ROWS) % CLASSES, UNLABELED)
    images, features = image_set(labels)
    drawn = draw_sample(images, features, dims=4, seed=0)
    rows = [int(name) for name in drawn.split.names]
    assert rows == list(images.train.labeled)
    centered = features.train.astype(np.float64) - features.train.astype(np.float64).mean(axis=0)
    axes = np.linalg.svd(centered, full_matrices=False)[2][:4]
    expected = (centered[rows] @ axes.T) / np.sqrt(np.square(centered).mean())
    np.testing.assert_allclose(np.abs(drawn.coordinates), np.abs(expected), atol=1e-5)


def test_seed_draws_the_sample():
    images, features = image_set(np.arange(ROWS) % CLASSES)
    first, again, other = (draw_sample(images, features, 4, seed, most=20).split.names for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == 20
