"""Distillation of one student: its method and targets, the loop, and the fold at the end."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.augment import Augment
from tcs_edge.data.cache import keep_decoded
from tcs_edge.data.loader import evaluation_loader, training_loader
from tcs_edge.data.rand_augment import RandAugment
from tcs_edge.methods import CrossEntropy, DistillationTargets, Dkd, Kd, Method, SimKd, Tcs
from tcs_edge.models.feature_map import drop_head, map_shape
from tcs_edge.specs.config import CompressConfig
from tcs_edge.tcs.selection import SelectionSchedule
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.fold import fold_student
from tcs_edge.training.modes import deterministic
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.trainer import Data, train
from tcs_edge.utils.allocator import return_freed_memory
from tcs_edge.utils.files import write_json, write_text

logger = logging.getLogger(__name__)

# The fold is checked on this many real images.
FOLD_IMAGES = 64


@dataclass(frozen=True)
class TrainingFiles:
    """Where a training run leaves its traces: state to resume from, a line per epoch, the selection."""

    checkpoint: Path
    metrics: Path
    selection: Path


def distill(
    backbone: nn.Module,
    feature_dim: int,
    images: ImageSet,
    preprocess: Preprocess,
    knowledge: DistillationTargets | None,
    options: CompressConfig,
    files: TrainingFiles,
    resume: bool,
) -> nn.Module:
    """Train `backbone` by `options.method` and return the folded model that is deployed.

    Args:
        backbone: (B, 3, S, S) -> (B, feature_dim); trained in place.
        knowledge: what the teacher left to the method; None for a method without a teacher.
        options: a resolved config.
        resume: go on from `files.checkpoint`.

    Raises:
        TrainingDiverged: a loss was NaN or Inf.
        UsageError: `options.train` asks for what the device cannot do.
        ParityFailed: the fold does not equal the trained head.
    """
    return_freed_memory()  # what the teacher's pass and the fits freed
    torch.manual_seed(options.seed)
    method = make_method(options, backbone, feature_dim, len(images.classes), preprocess.img_size, knowledge)
    accelerator = make_accelerator(options.device, options.train.amp)
    log = _MetricsLog(files.metrics, resume)
    data = _make_data(images, preprocess, options)
    with deterministic(options.train.deterministic):
        train(
            backbone, method, data, _schedule(options), options.seed, accelerator,
            files.checkpoint, resume, options.train, log)  # fmt: skip
    write_json(files.selection, {"schema_version": 1, "rounds": method.history()})
    model, difference = fold_student(backbone, method, _first_images(images, preprocess))
    logger.debug(f"deployed model against the trained one: relative difference {difference:.1e}")
    return model


def _schedule(options: CompressConfig) -> Schedule:
    return Schedule(
        epochs=_settled(options.epochs),
        batch_size=options.batch_size,
        lr=_settled(options.lr),
        weight_decay=options.train.weight_decay,
        warmup_fraction=options.train.warmup_fraction,
        grad_clip=options.train.grad_clip,
    )


def make_method(
    options: CompressConfig,
    backbone: nn.Module,
    features: int,
    classes: int,
    img_size: int,
    knowledge: DistillationTargets | None,
) -> Method:
    """What `options.method` puts behind a backbone that gives `features` numbers per image."""
    smoothing = options.train.label_smoothing
    if knowledge is None:
        return CrossEntropy(features, classes, smoothing)
    if options.method == "kd":
        return Kd(features, classes, knowledge.ask(), **options.kd.model_dump(), label_smoothing=smoothing)
    if options.method == "dkd":
        return Dkd(features, classes, knowledge.ask(), **options.dkd.model_dump(), label_smoothing=smoothing)
    if options.method == "simkd":
        return _make_simkd(backbone, img_size, knowledge)
    tcs = options.tcs
    by: Literal["importance", "variance"] = "variance" if tcs.ablation == "top-variance" else "importance"
    schedule = SelectionSchedule(kept_fraction=tcs.kept_fraction, by=by)
    return Tcs(
        features, classes, knowledge.rows, schedule,
        label_weight=_settled(tcs.label_weight), mimic=tcs.mimic, weight=_settled(tcs.mimic_weight),
        mimic_warmup=_settled(tcs.mimic_warmup),
        hash_bits=tcs.hash_bits,
        probe=knowledge.probe if tcs.probe_start else None,
        soft_labels=knowledge.soft_labels, soft_weight=_settled(tcs.soft_weight), temperature=tcs.temperature,
        label_smoothing=smoothing, seed=options.seed,
    )  # fmt: skip


def _make_simkd(backbone: nn.Module, img_size: int, knowledge: DistillationTargets) -> SimKd:
    drop_head(backbone, img_size)
    channels, _ = map_shape(backbone, img_size)
    if knowledge.probe is None:
        raise ValueError("SimKD needs the teacher's classifier")
    return SimKd(channels, knowledge.probe, knowledge.ask(), knowledge.grid, knowledge.signed)


def _make_data(images: ImageSet, preprocess: Preprocess, options: CompressConfig) -> Data:
    workers = _settled(options.workers)
    distortion = RandAugment(options.train.rand_augment, options.train.rand_augment_ops)
    augment = Augment(_settled(options.augment), preprocess, distortion=distortion)
    decoded = keep_decoded(images.train, preprocess)
    batches = partial(
        training_loader, decoded, augment, options.batch_size, options.seed,
        workers=workers, labeled_fraction=options.labeled_fraction,
    )  # fmt: skip
    val = partial(evaluation_loader, images.val, preprocess, options.batch_size, workers)
    return Data(lambda epoch: batches(epoch=epoch), len(batches(epoch=0)), val)


def _first_images(images: ImageSet, preprocess: Preprocess) -> Tensor:
    count = min(FOLD_IMAGES, len(images.val))
    rows = [math.floor(index * len(images.val) / count) for index in range(count)]
    return torch.stack([torch.from_numpy(preprocess(images.val.image(row))) for row in rows])


def _settled(value: Any) -> Any:
    """An option that `CompressConfig.resolved` must have settled."""
    if value is None:
        raise ValueError("distill needs a resolved config")
    return value


class _MetricsLog:
    """Keeps metrics.jsonl: one line per epoch, appended; of a resumed run, lines of epochs that are done again go."""

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self.earlier = path.read_text(encoding="utf-8").splitlines() if resume and path.exists() else []
        self.started = False

    def __call__(self, metrics: dict[str, Any]) -> None:
        if not self.started:
            kept = [line for line in self.earlier if _epoch(line) < metrics["epoch"]]
            write_text(self.path, "".join(f"{line}\n" for line in kept))
            self.started = True
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")


def _epoch(line: str) -> float:
    """Number of the epoch that a line is of; infinite where the line broke off."""
    try:
        return float(json.loads(line)["epoch"])
    except json.JSONDecodeError:
        return math.inf
