"""Comparison of the teacher with the student's own pretrained features, before any training.

A linear probe is fitted on each, on the same labeled images, and both are measured on the validation images. A
teacher whose features are no better than the student's own can teach it little.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from torch import nn

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.errors import DataError
from tcs_edge.labels.linear_probe import fit_linear_probe
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.stages.probes import own_features
from tcs_edge.teachers.features import Features
from tcs_edge.validation.statistics import mcnemar_exact

logger = logging.getLogger(__name__)

MOST_IMAGES = 2000  # of each split, so that the student's forward passes take seconds
CONFIDENCE = 0.95


@dataclass(frozen=True)
class ProbeComparison:
    """Validation accuracy of two linear probes in 0..1, and whether their difference is more than chance.

    Attributes:
        images: number of validation images.
        shown: True if McNemar's exact test finds a difference at 95 %.
    """

    teacher: float
    student: float
    images: int
    shown: bool


def compare_probes(
    features: Features, images: ImageSet, preprocess: Preprocess, backbone: nn.Module, options: ResolvedConfig
) -> ProbeComparison | None:
    """Compare the teacher with the student before training; None without pretrained weights.

    At most `MOST_IMAGES` images of each split are used, spread evenly. Nothing of the student changes.

    Args:
        preprocess: preprocessing of the student's images.
    """
    if options.student_init == "random" or not len(images.val):
        return None
    train, val = _spread(images.train.labeled), _spread(np.arange(len(images.val)))
    labels, truth = images.train.labels[train], images.val.labels[val]
    try:
        own = [
            own_features(backbone, split, preprocess, options).numpy()
            for split in (images.train.subset(train), images.val.subset(val))
        ]
    except DataError as error:
        logger.debug(f"student probe: none ({error})")
        return None
    read = features.readout.vectors
    teacher, student = (
        fit_linear_probe(fitted, labels, len(images.classes)).logits(measured).argmax(axis=1) == truth
        for fitted, measured in ((read(features.train[train]), read(features.val[val])), own)
    )
    shown = mcnemar_exact(teacher, student).p_value < 1 - CONFIDENCE
    return ProbeComparison(float(teacher.mean()), float(student.mean()), len(val), shown)


def _spread(rows: np.ndarray) -> np.ndarray:
    """Return at most `MOST_IMAGES` of the rows, evenly spread."""
    count = min(len(rows), MOST_IMAGES)
    return rows[np.arange(count) * len(rows) // max(1, count)]
