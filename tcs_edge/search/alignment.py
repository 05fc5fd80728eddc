"""Search by alignment: predict the teacher's coordinates and the labels from a student's pretrained features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.cache import crop_all
from tcs_edge.data.images import Split
from tcs_edge.errors import DataError, MissingError, UsageError, reason_of
from tcs_edge.models.candidates import Candidate
from tcs_edge.search.ridge import align
from tcs_edge.stages.prepare import Shortlist
from tcs_edge.students.accuracy_estimate import AccuracyEstimate, by_table
from tcs_edge.students.build import build_student, deployable, student_mean_std, weights_at_hand
from tcs_edge.students.features import features_before_training
from tcs_edge.tcs.coordinates import ROWS_AT_ONCE, fit_coordinates
from tcs_edge.teachers.cache import FeatureStore, feature_ingredients
from tcs_edge.teachers.features import Features, feature_keys
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.utils.cache_folder import default_cache_dir
from tcs_edge.utils.files import sha256_file
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

SAMPLE_IMAGES = 2000
BATCH_SIZE = 64
ALIGNED = 1  # search depth of a compared student, above the table's 0

# Features (n, d) of the sampled images; raises UsageError, DataError or MissingError for a student without features.
FeaturesOf = Callable[[Candidate], np.ndarray]


@dataclass(frozen=True, eq=False)
class Sample:
    """Labeled training images for the comparison of students.

    Attributes:
        split: the n images with their labels.
        coordinates: float32 (n, k), their coordinates from the teacher.
    """

    split: Split
    coordinates: np.ndarray


def draw_sample(images: ImageSet, features: Features, dims: int, seed: int, most: int = SAMPLE_IMAGES) -> Sample:
    """Draw at most `most` labeled training images by `seed`; keep their order. Coordinates have at most `dims` axes."""
    drawn = np.random.default_rng(seed).permutation(images.train.labeled)[:most]
    rows = np.sort(drawn)
    coordinates = fit_coordinates(torch.from_numpy(features.train).split(ROWS_AT_ONCE), dims)
    return Sample(images.train.subset(rows), coordinates.transform(torch.from_numpy(features.train[rows])).numpy())


def by_alignment(
    candidates: Iterable[Candidate], sample: Sample, features_of: FeaturesOf
) -> dict[str, AccuracyEstimate | None]:
    """Return the accuracy estimate of each candidate by name; of one without features, the table's with the reason."""
    expected: dict[str, AccuracyEstimate | None] = {}
    for candidate in track(candidates := tuple(candidates), "comparing students", total=len(candidates)):
        try:
            features = features_of(candidate)
        except (UsageError, DataError, MissingError) as error:
            expected[candidate.name] = by_table_because(candidate, reason_of(error))
            continue
        expected[candidate.name] = found = _expected(features, sample)
        logger.debug(f"  {candidate.name}: {found.how}")
    return expected


def by_table_because(candidate: Candidate, reason: str) -> AccuracyEstimate | None:
    """Return the table's estimate for a student that the search could not compare; it ranks below compared students."""
    known = by_table(candidate)
    return replace(known, how=f"{known.how} (not compared on the images: {reason})") if known else None


def student_features(listed: Shortlist, sample: Sample) -> FeaturesOf:
    """Return a function to the features of a student, from one forward pass of its network or from the cache.

    The images are decoded once for all students: uint8 (n, S, S, 3) in memory.
    """
    base = listed.prepared().preprocess
    keys = feature_keys(sample.split)
    views = crop_all(sample.split, range(len(sample.split)), base, "decoding a sample")

    def features_of(candidate: Candidate) -> np.ndarray:
        weights = weights_at_hand(candidate.name, listed.init)
        if weights is None:
            raise MissingError("its weights are not on this machine")
        mean, std = student_mean_std(candidate.name)
        preprocess = replace(base, mean=mean, std=std)
        store = _store(listed, candidate, weights, preprocess)
        features, known = store.read(keys)
        if not known.all():
            with store.owned(keys) as folder:
                features, known = store.read(keys, logging.DEBUG)  # another process may have computed them
                missing = np.flatnonzero(~known)
                if len(missing):
                    features[missing] = _forward(listed, candidate.name, weights, preprocess, views, missing)
                    store.write(folder, keys[missing], features[missing])
        return features

    return features_of


def _expected(features: np.ndarray, sample: Sample) -> AccuracyEstimate:
    found = align(features, sample.coordinates, sample.split.labels)
    how = (
        f"ridge regression of its pretrained features, leave-one-out on {len(sample.split)} training images: mean of "
        f"label accuracy {100 * found.accuracy:.1f} % and R2 of the teacher's coordinates {found.r2:.3f}"
    )
    return AccuracyEstimate(found.percent, "alignment", how, ALIGNED)


def _store(listed: Shortlist, candidate: Candidate, weights: Path, preprocess: Preprocess) -> FeatureStore:
    ingredients = feature_ingredients(candidate.name, sha256_file(weights), preprocess) | {"role": "student"}
    return FeatureStore(listed.asked.cache_dir or default_cache_dir(), ingredients, candidate.feature_dim)


def _forward(
    listed: Shortlist, name: str, weights: Path, preprocess: Preprocess, views: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Features, float16 (n, d), of the views at `rows` (n,), of the network in its deployed form."""
    model = deployable(build_student(name, preprocess.img_size, weights, listed.asked.seed))
    batches = (rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE))
    pixels = (np.stack([preprocess.normalize(views[row]) for row in batch]) for batch in batches)
    device = make_accelerator(listed.asked.device).device
    return features_before_training(model, map(torch.from_numpy, pixels), device, weights.name)
