"""Distillation of one student: method, training loop, and the fold into the model to deploy."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.augment import Augment
from tcs_edge.data.cache import evaluation_view, keep_decoded, with_crops
from tcs_edge.data.loader import TrainingBatches, evaluation_loader
from tcs_edge.data.rand_augment import RandAugment
from tcs_edge.errors import DataError
from tcs_edge.methods import DistillationTargets, Method, MethodInputs, build_method
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.fold import fold_student
from tcs_edge.training.modes import deterministic, tensor_float_32
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.tracking import open_trackers
from tcs_edge.training.trainer import Data, train
from tcs_edge.utils.allocator import keeping_freed_memory, return_freed_memory
from tcs_edge.utils.files import write_bytes, write_json
from tcs_edge.utils.ranks import current, shared_bytes
from tcs_edge.utils.reading import parse_json, read_regular

logger = logging.getLogger(__name__)

# Real images that the fold is checked on.
FOLD_IMAGES = 64


@dataclass(frozen=True)
class TrainingFiles:
    """Files that a training run writes: state to resume from, one line per epoch, the feature selection."""

    checkpoint: Path
    metrics: Path
    selection: Path


def distill(
    backbone: nn.Module,
    feature_dim: int,
    images: ImageSet,
    preprocess: Preprocess,
    targets: DistillationTargets | None,
    options: ResolvedConfig,
    files: TrainingFiles,
    resume: bool,
) -> nn.Module:
    """Train `backbone` by `options.method` and return the folded model to deploy.

    Args:
        backbone: (B, 3, S, S) -> (B, feature_dim); trained in place.
        targets: from the teacher; None for a method without one.
        resume: continue from `files.checkpoint`.

    Raises:
        TrainingDiverged: a loss is NaN or Inf.
        UsageError: the device lacks support for `options.train`.
        ParityFailed: outputs of the folded model differ from the trained one's.
    """
    method = train_method(backbone, feature_dim, images, preprocess, targets, options, files, resume)
    write_json(files.selection, {"schema_version": 1, "rounds": method.history()})
    model, difference = fold_student(backbone, method, _first_images(images, preprocess))
    logger.debug(f"folded model: relative difference {difference:.1e} to the trained model")
    return model


def train_method(
    backbone: nn.Module,
    feature_dim: int,
    images: ImageSet,
    preprocess: Preprocess,
    targets: DistillationTargets | None,
    options: ResolvedConfig,
    files: TrainingFiles | None = None,
    resume: bool = False,
) -> Method:
    """Train `backbone` and the method of `options` in place, and return the method; arguments as `distill`.

    Args:
        files: None in a process other than rank 0, which writes nothing and receives the checkpoint of rank 0.

    Raises:
        TrainingDiverged, UsageError: as `distill`.
    """
    return_freed_memory()  # from the teacher's pass and the fits
    torch.manual_seed(options.seed)
    classes, img_size = len(images.classes), preprocess.img_size
    method = build_method(MethodInputs(backbone, feature_dim, img_size, classes, options, targets))
    accelerator = make_accelerator(options.device, options.train.amp)
    if options.method_facts.trains:
        with (
            closing(training_batches(images, preprocess, options, accelerator.device)) as batches,
            _log(files, resume, options, len(batches)) as log,
            deterministic(options.train.deterministic),
            tensor_float_32(accelerator.device),
            keeping_freed_memory(),
            _checkpoint(files, resume) as (checkpoint, resume),
        ):
            train(
                backbone, method, _data(batches, images, preprocess, options, accelerator.device),
                _schedule(options), options.seed, accelerator,
                checkpoint, resume, options.train, log,
            )  # fmt: skip
    return method


@contextmanager
def _checkpoint(files: TrainingFiles | None, resume: bool) -> Iterator[tuple[Path | None, bool]]:
    """Yield the checkpoint's path, and whether to resume from it; other processes receive the file of rank 0."""
    if current().alone:
        yield (files.checkpoint if files else None), resume
        return
    state = shared_bytes(files.checkpoint.read_bytes() if files and resume else None)
    if files:
        yield files.checkpoint, resume
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkpoint.safetensors"
        copy.write_bytes(state)
        yield copy, bool(state)


@contextmanager
def _log(
    files: TrainingFiles | None, resume: bool, options: ResolvedConfig, steps_per_epoch: int
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that takes the metrics of an epoch; only rank 0 keeps them."""
    if files is None:
        yield lambda metrics: None
        return
    lines = _MetricsLog(files.metrics, resume)
    document = options.model_dump(mode="json", exclude_none=True)
    with open_trackers(options.log or (), files.metrics.parent, document) as trackers:

        def log(metrics: dict[str, Any]) -> None:
            lines(metrics)
            trackers.log(metrics, metrics["epoch"] * steps_per_epoch)

        yield log


def _schedule(options: ResolvedConfig) -> Schedule:
    return Schedule(
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        weight_decay=options.train.weight_decay,
        warmup_fraction=options.train.warmup_fraction,
        grad_clip=options.train.grad_clip,
    )


def training_batches(
    images: ImageSet, preprocess: Preprocess, options: ResolvedConfig, device: torch.device
) -> TrainingBatches:
    """Return the batches of a run's training, with its augmentation and workers."""
    distortion = RandAugment(options.train.rand_augment, options.train.rand_augment_ops)
    augment = Augment(options.augment, preprocess, distortion=distortion)
    fraction = options.labeled_fraction or _labeled_fraction(images)
    decoded = keep_decoded(images.train, preprocess, options.cache_gb)
    return TrainingBatches(
        decoded, augment, options.batch_size, options.seed, options.workers, fraction, current(), device
    )


def _data(
    batches: TrainingBatches, images: ImageSet, preprocess: Preprocess, options: ResolvedConfig, device: torch.device
) -> Data:
    size, workers = options.batch_size, options.workers
    kept = with_crops(images.val, preprocess, int(options.cache_gb * 1e9), options.cache_dir)
    val = partial(evaluation_loader, kept, preprocess, size, workers, current(), device)
    return Data(batches.of_epoch, len(batches), val)


def _labeled_fraction(images: ImageSet) -> float:
    """Default fraction of labeled images in a batch: halfway from their fraction of all training images to 1."""
    return (1 + images.train.labeled_fraction) / 2


def _first_images(images: ImageSet, preprocess: Preprocess) -> Tensor:
    count = min(FOLD_IMAGES, len(images.val))
    rows = [math.floor(index * len(images.val) / count) for index in range(count)]
    return torch.stack(
        [torch.from_numpy(preprocess.normalize(evaluation_view(images.val, row, preprocess))) for row in rows]
    )


class _MetricsLog:
    """Append one line per epoch to metrics.jsonl; a resumed run first drops lines of epochs that it repeats."""

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self.earlier = read_regular(path).splitlines() if resume and path.exists() else []
        self.started = False

    def __call__(self, metrics: dict[str, Any]) -> None:
        if not self.started:
            kept = [line for line in self.earlier if _epoch(line) < metrics["epoch"]]
            write_bytes(self.path, b"".join(line + b"\n" for line in kept))
            self.started = True
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")


def _epoch(line: bytes) -> float:
    """Return the epoch of a line; infinity for a line that broke off or is damaged."""
    try:
        epoch = parse_json(line, "metrics.jsonl")["epoch"]
    except (DataError, KeyError, TypeError):
        return math.inf
    return float(epoch) if type(epoch) in (int, float) else math.inf
