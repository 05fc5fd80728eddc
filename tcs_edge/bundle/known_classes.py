"""Write known_classes.npz: embeddings of the model's own classes, to add other classes on the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tcs_edge.bundle.golden import spread_over_classes
from tcs_edge.bundle.programs import device_module
from tcs_edge.data import ImageSet, Preprocess, Split
from tcs_edge.data.images import UNLABELED
from tcs_edge.runtimes.base import Runner, outputs_of

MEAN_IMAGES = 64  # training images per class, for its mean
MARGIN_IMAGES = 500  # validation images of all classes, for the thresholds


def write_known_classes(
    folder: Path, images: ImageSet, preprocess: Preprocess, runner: Runner, model_sha256: list[str]
) -> None:
    """Write known_classes.npz into `folder`: class means of training images, and embeddings of validation images.

    A class without a training image has a mean of zeros, which is like no image.

    Raises:
        DataError: an image is not readable.
    """
    classes = device_module("edge_classes")
    means = np.zeros((len(images.classes), runner.embedding_size), dtype=np.float32)
    for label in range(len(images.classes)):
        own = np.flatnonzero(images.train.labels == label)[:MEAN_IMAGES].tolist()
        if own:
            found = embeddings_of(runner, images.train, preprocess, own)
            means[label] = device_module("edge_arrays").unit_rows(found).mean(axis=0)
    labeled = images.val.labels != UNLABELED
    rows = [row for row in spread_over_classes(images.val.labels, len(images.val)) if labeled[row]][:MARGIN_IMAGES]
    classes.write_known(
        folder / classes.KNOWN, means, embeddings_of(runner, images.val, preprocess, rows), model_sha256
    )


def embeddings_of(runner: Runner, images: Split, preprocess: Preprocess, rows: list[int]) -> np.ndarray:
    """Return the embeddings, float32 (N, k), of some images, one at a time."""
    made = [outputs_of(runner, preprocess(images.image(row))[None])[1] for row in rows]
    found = [one for one in made if one is not None]
    return np.concatenate(found) if found else np.zeros((0, runner.embedding_size), dtype=np.float32)
