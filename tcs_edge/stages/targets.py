"""Distillation targets from the teacher's single pass: coordinates, logits or maps.

With an online teacher, only the linear probe is fitted on the pass. The teacher is then loaded again and stays
in memory.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.errors import UsageError
from tcs_edge.labels.linear_probe import LinearProbe, fit_linear_probe
from tcs_edge.labels.soft_labels import labeled_probe
from tcs_edge.methods import DistillationTargets, OnlineTeacher
from tcs_edge.models.feature_map import map_shape
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.stages.probes import as_linear, fit_own_probe, measured_soft_share, pooled_soft_labels
from tcs_edge.tcs.coordinates import ROWS_AT_ONCE, Coordinates, Moments, coordinates_of, merged, moments_of, random_axes
from tcs_edge.teachers.features import Features
from tcs_edge.teachers.info import TeacherInfo
from tcs_edge.teachers.load import build_teacher
from tcs_edge.teachers.readout import POOLED, Readout, teacher_map_shape
from tcs_edge.teachers.source import describe, run_features
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.utils.ranks import current, gathered
from tcs_edge.utils.row_array import IN_MEMORY_BYTES, stored_rows

logger = logging.getLogger(__name__)

# The maps of all images are on disk while the student trains, and cross to the device batch by batch.
MAX_MAPS_MB = 2048.0


def gather_features(
    images: ImageSet, preprocess: Preprocess, backbone: nn.Module, options: ResolvedConfig
) -> Features | None:
    """Return the teacher's features, or None for a method without a teacher; free the teacher afterwards.

    Raises:
        UsageError: maps need more than `MAX_MAPS_MB`.
        UsageError, DataError, MissingError: as `run_features`.
    """
    if not options.has_teacher:
        return None
    maps = options.method_facts.targets == "maps"
    return teacher_pass(images, options, _readout(images, preprocess, backbone, options) if maps else POOLED)


def teacher_pass(images: ImageSet, options: ResolvedConfig, readout: Readout = POOLED) -> Features:
    """Return the features of the run's teacher, read from the cache if it has them.

    Raises:
        UsageError, DataError, MissingError: as `run_features`.
    """
    return run_features(images, options, make_accelerator(options.device).device, readout)


def make_targets(
    features: Features, images: ImageSet, preprocess: Preprocess, backbone: nn.Module | None, options: ResolvedConfig
) -> DistillationTargets:
    """Make the targets of `options.method` from the teacher's features of `images`.

    The result also has the validation accuracy of the teacher's linear probe.

    Args:
        preprocess: preprocessing of the student's images.
        backbone: the student before training, for a probe on its own features; None if the student is not chosen
            yet, or no such probe is used.
    """
    if features.meta.non_commercial:
        logger.warning(f"teacher {features.meta.name}: no commercial use (license {features.meta.license})")
    probe, accuracy = _probe(features, images)
    return replace(_targets(features, probe, images, preprocess, backbone, options), probe_accuracy=accuracy)


def own_targets(
    images: ImageSet, preprocess: Preprocess, backbone: nn.Module, options: ResolvedConfig
) -> DistillationTargets | None:
    """Make the targets of a method without a teacher, from a probe on the student's own features.

    None if the method has no such probe.

    Raises:
        DataError: features of the student that are not finite in fp16.
    """
    if options.starts_from_own_probe:
        return DistillationTargets(probe=as_linear(fit_own_probe(backbone, images, preprocess, options)[0]))
    if options.soft_labels_from == "student":
        return DistillationTargets(rows=fit_own_probe(backbone, images, preprocess, options)[1])
    return None


def _targets(
    features: Features,
    probe: LinearProbe,
    images: ImageSet,
    preprocess: Preprocess,
    backbone: nn.Module | None,
    options: ResolvedConfig,
) -> DistillationTargets:
    if options.method_facts.targets == "coordinates":
        return _coordinate_targets(features, images, preprocess, backbone, options)
    if options.soft_labels_from == "pooled":
        rows = _target_rows(features, _coordinates(features, options), options)
        pooled = pooled_soft_labels(rows, images, preprocess, backbone, options)
        return DistillationTargets(rows=_soft_label_rows(pooled.logits, options))
    grid = features.readout.grid
    linear = as_linear(probe)
    signed = bool((features.readout.vectors(features.train) < 0).any())
    if options.online_teacher:
        online = online_teacher(options, features.readout, linear, preprocess)
        return DistillationTargets(online=online, probe=linear, signed=signed, grid=grid)
    if options.method_facts.targets == "maps":
        maps = torch.from_numpy(features.train).unflatten(1, (features.readout.channels, grid, grid))
        return DistillationTargets(rows=maps, probe=linear, signed=signed, grid=grid)
    return DistillationTargets(rows=_logit_rows(probe, features, options))


def _coordinate_targets(
    features: Features, images: ImageSet, preprocess: Preprocess, backbone: nn.Module | None, options: ResolvedConfig
) -> DistillationTargets:
    """Coordinates, soft labels and the classifier's start for TCS."""
    coordinates = _coordinates(features, options)
    rows = _target_rows(features, coordinates, options)
    shuffled = options.tcs.ablation == "shuffled-targets"
    targets = DistillationTargets(rows=_shuffled(rows, options) if shuffled else rows, coordinates=coordinates)
    if not options.tcs.soft_labels:
        train = images.train
        start = labeled_probe(rows, train.labels, train.labeled, len(images.classes))
        return replace(targets, probe=as_linear(start))
    found = pooled_soft_labels(rows, images, preprocess, backbone, options)
    share = options.tcs.soft_share if options.tcs.soft_share is not None else measured_soft_share(found, images)
    return replace(
        targets, probe=as_linear(found.probe), soft_labels=_soft_label_rows(found.logits, options), soft_share=share
    )


def _readout(images: ImageSet, preprocess: Preprocess, backbone: nn.Module, options: ResolvedConfig) -> Readout:
    """Readout of maps on the coarser of both grids; with an online teacher, of their means alone."""
    info = describe(options)
    channels, side = teacher_map_shape(info)
    grid = min(side, map_shape(backbone, preprocess.img_size)[1])
    if options.online_teacher:
        return Readout("map mean", channels, grid)
    _require_room(info, channels, grid, len(images.train) + len(images.val))
    return Readout("map", channels, grid)


def _require_room(info: TeacherInfo, channels: int, grid: int, images: int) -> None:
    needed_mb = images * channels * grid**2 * 2 / 1e6
    if needed_mb > MAX_MAPS_MB:
        raise UsageError(
            f"teacher {info.name}: its {grid} x {grid} maps of {images} images take {needed_mb:.0f} MB, over the "
            f"limit of {MAX_MAPS_MB:.0f} MB. Pass --online-teacher, or a smaller --img-size."
        )


def _probe(features: Features, images: ImageSet) -> tuple[LinearProbe, float]:
    """Fit the teacher's linear probe on the labeled training images; return it with its validation accuracy."""
    read = features.readout.vectors
    labeled = images.train.labeled
    probe = fit_linear_probe(read(features.train[labeled]), images.train.labels[labeled], len(images.classes))
    accuracy = probe.accuracy(read(features.val), images.val.labels)
    inputs = "" if features.readout == POOLED else " on the mean of its last map"
    meta = features.meta
    cached = ", cached features" if isinstance(meta, TeacherInfo) and not features.images_computed else ""
    license = meta.license.replace(f"unknown ({meta.name})", "license unknown")
    logger.info(f"teacher: {meta.name} ({license}{cached})")
    logger.info(f"teacher probe{inputs}: validation accuracy {100 * accuracy:.1f} %")
    return probe, accuracy


def _coordinates(features: Features, options: ResolvedConfig) -> Coordinates:
    """PCA of the training images' features, or the ablation's random axes."""
    coordinates = coordinates_of(shared_moments(features), options.tcs.dims)
    logger.info(
        f"coordinates: {coordinates.dims} of the teacher's {features.meta.dim} axes, "
        f"{100 * coordinates.explained_variance:.1f} % of its variance"
    )
    if options.tcs.ablation == "random-axes":
        return random_axes(coordinates, torch.Generator().manual_seed(options.seed))
    return coordinates


def uses_coordinates(options: ResolvedConfig) -> bool:
    """Return True if the targets need the teacher's coordinates."""
    return options.method_facts.targets == "coordinates" or options.soft_labels_from == "pooled"


def shared_moments(features: Features) -> Moments:
    """Moments of the training images' features; of several processes, each computes those of its part.

    Raises:
        DataError: fewer than two images.
    """
    rows = torch.from_numpy(features.train)
    if current().alone:
        return moments_of(rows.split(ROWS_AT_ONCE))
    place = current()
    own = rows.tensor_split(place.size)[place.rank]
    part = moments_of(own.split(ROWS_AT_ONCE)) if len(own) else Moments.nothing(rows.shape[1])
    parts = zip(gathered(torch.tensor(part.count)), gathered(part.mean), gathered(part.scatter), strict=True)
    return merged(Moments(int(count), mean, scatter) for count, mean, scatter in parts)


def _target_rows(features: Features, coordinates: Coordinates, options: ResolvedConfig) -> Tensor:
    """Coordinates (N, k) of the training images, float16."""
    parts = (coordinates.transform(part).numpy() for part in torch.from_numpy(features.train).split(ROWS_AT_ONCE))
    return torch.from_numpy(stored_rows(parts, len(features.train), np.float16, options.cache_dir))


def _logit_rows(probe: LinearProbe, features: Features, options: ResolvedConfig) -> Tensor:
    """Logits (N, classes) of the teacher's probe for the training images, float16."""
    at_once = max(ROWS_AT_ONCE, IN_MEMORY_BYTES // (4 * len(probe.bias)))
    parts = (probe.logits(part.numpy()) for part in torch.from_numpy(features.train).split(at_once))
    return torch.from_numpy(stored_rows(parts, len(features.train), np.float16, options.cache_dir))


def _soft_label_rows(logits: Tensor, options: ResolvedConfig) -> Tensor:
    """Return soft labels (N, classes) as float16 rows."""
    parts = (part.numpy() for part in logits.split(ROWS_AT_ONCE))
    return torch.from_numpy(stored_rows(parts, len(logits), np.float16, options.cache_dir))


def _shuffled(rows: Tensor, options: ResolvedConfig) -> Tensor:
    """Give each image the coordinates of another one; its soft label stays."""
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(options.seed))]


def online_teacher(options: ResolvedConfig, readout: Readout, probe: nn.Linear, student: Preprocess) -> OnlineTeacher:
    """Return the online teacher, whose targets are maps for SimKD and logits otherwise.

    Raises:
        UnknownName, UsageError, DataError, MissingError: as `describe` and `build_teacher`.
    """
    device = make_accelerator(options.device).device
    teacher = build_teacher(describe(options), device)
    logger.info(f"online teacher: {teacher.name}")
    if readout.grid:
        return OnlineTeacher(lambda view: readout.maps(teacher.module, view), student, teacher.preprocess)
    logits = nn.Sequential(teacher.module, probe.to(device)).requires_grad_(False)
    return OnlineTeacher(logits, student, teacher.preprocess)
