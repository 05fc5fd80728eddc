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
from tcs_edge.data.unlabeled import only_unlabeled, with_unlabeled
from tcs_edge.errors import DataError, UsageError
from tcs_edge.labels.next_images import LABELS_PER_CLASS, NextImage, next_images
from tcs_edge.labels.soft_labels import labeled_probe
from tcs_edge.runs.classifier import load_classifier
from tcs_edge.specs.config import LabelNextConfig
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
        guess: the most probable class so far; empty without any label.
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


def rank_images(asked: LabelNextConfig, count: int, run: Path | None, device: torch.device) -> LabelNext:
    """Choose `count` of the unlabeled images of `asked` to label next.

    The images of all three splits count as labeled. The teacher sees the training and validation images. Without any
    labeled images, typical ones are chosen.

    Args:
        run: a finished run with the same classes; its answers are averaged with the probe's.

    Raises:
        UsageError: no --unlabeled, a run without --data, or a `count` above the number of unlabeled images.
        DataError: a run of other classes.
        DataError, MissingError, UnknownName, ParityFailed: as `load_images`, `run_features` and `load_classifier`.
    """
    images = _images(asked, run)
    free = np.flatnonzero(images.train.labels == UNLABELED)
    if count > len(free):
        raise UsageError(f"-n {count} exceeds the {len(free)} unlabeled images. Pass -n {len(free)} or fewer.")
    student = _student(run, images, free) if run else None
    found = run_features(images, asked, device)
    rows = own_coordinates(torch.from_numpy(np.concatenate([found.train, found.val]))).numpy()
    labels = np.concatenate([images.train.labels, images.val.labels])
    labeled = np.flatnonzero(labels != UNLABELED)
    logger.info(f"labeled images: {len(labeled)} in {len(images.classes)} classes, unlabeled: {len(free)}")
    probabilities = None
    if len(labeled):
        probe = labeled_probe(torch.from_numpy(rows), labels, labeled, len(images.classes))
        probabilities = torch.from_numpy(probe.logits(rows)).softmax(dim=1).numpy()
        if student is not None:
            probabilities[free] = (probabilities[free] + student) / 2
    if len(labeled) < LABELS_PER_CLASS * len(images.classes):
        logger.info(f"fewer than {LABELS_PER_CLASS} labels per class: typical images first")
    chosen = next_images(rows, labeled, probabilities, count, asked.seed)
    ranked = [_ranked(one, images, probabilities) for one in chosen]
    return LabelNext(tuple(ranked), len(labeled), len(free))


def _images(asked: LabelNextConfig, run: Path | None) -> ImageSet:
    if asked.unlabeled is None:
        raise UsageError(
            "label-next needs images to label. Pass --unlabeled DIR; add --data DIR once some have labels."
        )
    exclude = asked.exclude or ()
    if asked.data is None:
        if run:
            raise UsageError("--run needs images of its classes. Pass --data DIR too, or leave --run out.")
        return only_unlabeled(asked.unlabeled, exclude, asked.cache_dir)
    images = load_images(asked.data, asked.seed, exclude, asked.cache_dir, asked.column or ())
    return with_unlabeled(images, asked.unlabeled, exclude, asked.cache_dir)


def _ranked(one: NextImage, images: ImageSet, probabilities: np.ndarray | None) -> Ranked:
    guess, reason = "", f"typical of {one.cluster} alike images"
    if probabilities is not None:
        own = probabilities[one.position]
        first, second = np.argsort(-own, kind="stable")[:2]
        guess, other = images.classes[first], images.classes[second]
        if one.reason == "uncertain":
            reason = f"{guess} {own[first]:.0%} or {other} {own[second]:.0%}"
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
