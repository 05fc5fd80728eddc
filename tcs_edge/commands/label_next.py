"""Rank unlabeled images by the use of their labels."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tcs_edge.data import load_images
from tcs_edge.data.images import UNLABELED, ImageSet
from tcs_edge.data.unlabeled import with_unlabeled
from tcs_edge.errors import DataError, UsageError
from tcs_edge.labels.next_images import LABELS_PER_CLASS, NextImage, next_images
from tcs_edge.labels.soft_labels import labeled_probe
from tcs_edge.runs.classifier import load_classifier
from tcs_edge.specs.config import ImagesConfig
from tcs_edge.tcs.coordinates import own_coordinates
from tcs_edge.teachers.source import run_features

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranked:
    """One image to label.

    Attributes:
        path: the image file, or archive and member.
        reason: one line for the user.
        kind: "typical" or "uncertain".
        score: mean cosine of the nearest neighbors for a typical image, else the uncertainty in 0..1.
        guess: the most probable class so far.
    """

    path: str
    reason: str
    kind: str
    score: float
    guess: str


@dataclass(frozen=True)
class LabelNext:
    """Images to label, the most important first, with the numbers of labeled and unlabeled images."""

    images: tuple[Ranked, ...]
    labeled: int
    unlabeled: int

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": 1, **asdict(self)}

    def to_csv(self) -> str:
        """Return a table with the columns path, reason, score and guess."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("path", "reason", "score", "guess"))
        table.writerows((one.path, one.reason, f"{one.score:.4f}", one.guess) for one in self.images)
        return text.getvalue()


def rank_images(asked: ImagesConfig, count: int, run: Path | None, device: torch.device) -> LabelNext:
    """Choose `count` of the unlabeled images of `asked` to label next.

    The images of all three splits count as labeled. The teacher sees the training and validation images.

    Args:
        run: a finished run with the same classes; its answers are averaged with the probe's.

    Raises:
        UsageError: no --data or --unlabeled, or a `count` above the number of unlabeled images.
        DataError: a run of other classes.
        DataError, MissingError, UnknownName, ParityFailed: as `load_images`, `run_features` and `load_classifier`.
    """
    if asked.data is None or asked.unlabeled is None:
        raise UsageError("label-next needs both folders. Pass --data DIR (labeled) and --unlabeled DIR.")
    images = load_images(asked.data, asked.seed, asked.exclude or (), asked.cache_dir, asked.column or ())
    images = with_unlabeled(images, asked.unlabeled, asked.exclude or (), asked.cache_dir)
    free = np.flatnonzero(images.train.labels == UNLABELED)
    if count > len(free):
        raise UsageError(f"-n {count} exceeds the {len(free)} unlabeled images. Pass -n {len(free)} or fewer.")
    student = _student(run, images, free) if run else None
    found = run_features(images, asked, device)
    rows = own_coordinates(torch.from_numpy(np.concatenate([found.train, found.val]))).numpy()
    labels = np.concatenate([images.train.labels, images.val.labels])
    labeled = np.flatnonzero(labels != UNLABELED)
    probe = labeled_probe(torch.from_numpy(rows), labels, labeled, len(images.classes))
    probabilities = torch.from_numpy(probe.logits(rows)).softmax(dim=1).numpy()
    if student is not None:
        probabilities[free] = (probabilities[free] + student) / 2
    logger.info(f"labeled images: {len(labeled)} in {len(images.classes)} classes, unlabeled: {len(free)}")
    if len(labeled) < LABELS_PER_CLASS * len(images.classes):
        logger.info(f"fewer than {LABELS_PER_CLASS} labels per class: typical images first")
    chosen = next_images(rows, labeled, probabilities, count, asked.seed)
    ranked = [_ranked(one, images, probabilities[one.position]) for one in chosen]
    return LabelNext(tuple(ranked), len(labeled), len(free))


def _ranked(one: NextImage, images: ImageSet, probabilities: np.ndarray) -> Ranked:
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    guess, other = images.classes[first], images.classes[second]
    reason = f"{guess} {probabilities[first]:.0%} or {other} {probabilities[second]:.0%}"
    if one.reason == "typical":
        reason = f"typical of {one.cluster} alike images"
    return Ranked(str(images.train.sources[one.position]), reason, one.reason, one.score, guess)


def _student(run: Path, images: ImageSet, free: np.ndarray) -> np.ndarray:
    """Return the probabilities of a run's model for the unlabeled images, float32 (n, classes)."""
    with load_classifier(run) as classifier:
        _require_classes(run, classifier.classes, images.classes)
        columns = [classifier.classes.index(name) for name in images.classes]
        rows = [classifier.probabilities([images.train.image(int(one))])[0] for one in free]
    return np.asarray(rows, np.float32)[:, columns]


def _require_classes(run: Path, classes: Sequence[str], wanted: Sequence[str]) -> None:
    if set(classes) != set(wanted):
        odd = sorted(set(classes) ^ set(wanted))[:3]
        raise DataError(f"the classes of {run} and of --data differ ({', '.join(odd)}). Pass a run of these classes.")
