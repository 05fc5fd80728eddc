"""Features of all images of a check: from the teacher that the user named, or from the cache."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tcs_edge.check.images import CheckedImages
from tcs_edge.errors import DataError
from tcs_edge.specs.config import ImagesConfig
from tcs_edge.teachers.cache import FEATURES_FOLDER, SCHEMA_VERSION, SPACE_FILE, FeatureStore
from tcs_edge.teachers.features import feature_keys
from tcs_edge.teachers.source import run_features
from tcs_edge.utils.cache_folder import default_cache_dir
from tcs_edge.utils.reading import read_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownFeatures:
    """Features of some of the images.

    Attributes:
        rows: float16 (N, d).
        known: bool (N,), True for the images with features.
        teacher: name of the network.
    """

    rows: np.ndarray
    known: np.ndarray
    teacher: str


def features_for(checked: CheckedImages, options: ImagesConfig, device: torch.device) -> KnownFeatures | None:
    """Return the features of a named teacher for all images, or those that a cache holds; None without any.

    Without a named teacher nothing is computed. A network counts if all labeled training images have its features;
    `compress` caches those of train and val.

    Raises:
        UsageError, DataError, MissingError: as `teachers.source.run_features`.
    """
    if options.names_teacher:
        found = run_features(checked.as_training_set(), options, device)
        return KnownFeatures(found.train, np.ones(len(checked), bool), found.meta.name)
    keys = feature_keys(checked.all)
    training = checked.part == 0
    best: tuple[int, FeatureStore, str] | None = None
    for store, teacher in _stores(options.cache_dir):
        known = store.has(keys)
        if known[training].all() and (best is None or known.sum() > best[0]):
            best = int(known.sum()), store, teacher
    if best is None:
        return None
    rows, known = best[1].read(keys)
    logger.info(f"features: {best[2]}, cached for {int(known.sum())} of {len(known)} images")
    return KnownFeatures(rows, known, best[2])


def _stores(cache_dir: Path | None) -> Iterator[tuple[FeatureStore, str]]:
    """Yield every cached store of pooled features of a teacher, with the name of its network."""
    root = default_cache_dir() if cache_dir is None else Path(cache_dir)
    for space in sorted((root / FEATURES_FOLDER).glob(f"*/{SPACE_FILE}")):
        try:
            stated = read_json(space, SCHEMA_VERSION)
            ingredients, dim = stated["ingredients"], int(stated["dim"])
            teacher = str(ingredients["model"])
        except (DataError, KeyError, TypeError, ValueError):
            continue
        store = FeatureStore(root, ingredients, dim)
        if store.folder == space.parent and not {"role", "readout"} & ingredients.keys():
            yield store, teacher
