"""Distillation targets from the teacher's single pass: coordinates, logits or maps.

With an online teacher, only the linear probe is fitted on the pass. The teacher is then loaded again and stays
in memory.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor, nn

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.loader import evaluation_loader
from tcs_edge.errors import UsageError
from tcs_edge.labels.linear_probe import LinearProbe, fit_linear_probe
from tcs_edge.labels.propagation import MAX_IMAGES
from tcs_edge.labels.soft_labels import SoftLabels, labeled_probe, soft_labels
from tcs_edge.methods import DistillationTargets, OnlineTeacher
from tcs_edge.models.feature_map import map_shape
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.students.features import features_before_training
from tcs_edge.tcs.coordinates import Coordinates, fit_coordinates, random_axes
from tcs_edge.teachers.features import Features
from tcs_edge.teachers.info import Teacher, TeacherInfo
from tcs_edge.teachers.load import build_teacher
from tcs_edge.teachers.readout import POOLED, Readout, teacher_map_shape
from tcs_edge.teachers.source import describe, run_features
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

TEACHER, STUDENT = "teacher", "student"  # sources of soft labels
ROWS_AT_ONCE = 4096
# The maps of all images stay in memory while the student trains.
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


def _targets(
    features: Features,
    probe: LinearProbe,
    images: ImageSet,
    preprocess: Preprocess,
    backbone: nn.Module | None,
    options: ResolvedConfig,
) -> DistillationTargets:
    if options.method_facts.targets == "coordinates":
        coordinates = _coordinates(features, options)
        rows = _target_rows(features, coordinates, options)
        found = _soft_labels(rows, images, preprocess, backbone, options)
        train = images.train
        start = found.probe if found else labeled_probe(rows, train.labels, train.labeled, len(images.classes))
        logits = found.logits if found else None
        return DistillationTargets(rows=rows, probe=_as_linear(start), coordinates=coordinates, soft_labels=logits)
    grid = features.readout.grid
    linear = _as_linear(probe)
    signed = bool((features.readout.vectors(features.train) < 0).any())
    if options.online_teacher:
        teacher = build_teacher(describe(options), make_accelerator(options.device).device)
        online = _online(teacher, features.readout, linear, preprocess)
        logger.info(f"online teacher: {teacher.name}")
        return DistillationTargets(online=online, probe=linear, signed=signed, grid=grid)
    if options.method_facts.targets == "maps":
        maps = torch.from_numpy(features.train).unflatten(1, (features.readout.channels, grid, grid))
        return DistillationTargets(rows=maps, probe=linear, signed=signed, grid=grid)
    return DistillationTargets(rows=torch.from_numpy(probe.logits(features.train)))


def uses_student_probe(options: ResolvedConfig) -> bool:
    """Return True if a probe on the student's own features adds to the soft labels."""
    wanted = options.method_facts.targets == "coordinates" and options.tcs.student_probe
    return wanted and options.tcs.soft_weight != 0 and options.student_init != "random"


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
    rows = torch.from_numpy(features.train).split(ROWS_AT_ONCE)
    coordinates = fit_coordinates(rows, options.tcs.dims)
    logger.info(
        f"coordinates: {coordinates.dims} of the teacher's {features.meta.dim} axes, "
        f"{100 * coordinates.explained_variance:.1f} % of its variance"
    )
    if options.tcs.ablation == "random-axes":
        return random_axes(coordinates, torch.Generator().manual_seed(options.seed))
    return coordinates


def _target_rows(features: Features, coordinates: Coordinates, options: ResolvedConfig) -> Tensor:
    """Coordinates (N, k) of the training images; the ablation shuffles them among the images."""
    rows = torch.from_numpy(features.train).split(ROWS_AT_ONCE)
    # Convert each part to the float16 of the cache: a float32 copy of all rows would dominate memory here.
    targets = torch.cat([coordinates.transform(part).to(torch.float16) for part in rows])
    if options.tcs.ablation != "shuffled-targets":
        return targets
    return targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(options.seed))]


def _soft_labels(
    targets: Tensor, images: ImageSet, preprocess: Preprocess, backbone: nn.Module | None, options: ResolvedConfig
) -> SoftLabels | None:
    """Soft labels of the training images; None where their weight is 0."""
    if options.tcs.soft_weight == 0:
        return None
    sources = {TEACHER: targets}
    labeled, classes = images.train.labeled, len(images.classes)
    if backbone is not None and uses_student_probe(options):
        own = _own_coordinates(backbone, images, preprocess, options)
        sources |= {} if own is None else {STUDENT: own}
    neighbors = options.tcs.label_propagation and len(labeled) < len(targets) <= MAX_IMAGES
    found = soft_labels(sources, images.train.labels, labeled, classes, neighbors)
    if neighbors or len(sources) > 1:
        for name in sources:
            logger.info(f"soft labels: {_source_line(found, name)}")
    return found


def _source_line(found: SoftLabels, source: str) -> str:
    accuracy = found.heldout_accuracy.get(source)
    heldout = "no held-out labels" if accuracy is None else f"held-out accuracy {100 * accuracy:.0f} %"
    share = f"propagation {found.shares[source]:g}" if found.shares[source] else "no propagation"
    return f"{source} probe {100 * found.weights[source]:.0f} % ({heldout}, {share})"


def _own_coordinates(
    backbone: nn.Module, images: ImageSet, preprocess: Preprocess, options: ResolvedConfig
) -> Tensor | None:
    """Coordinates (N, k) of the student's own features before training, with `options.tcs.dims` axes at most.

    None where all images have identical features; with untrained weights they may underflow.
    """
    loader = evaluation_loader(images.train, preprocess, options.batch_size, options.workers)
    device = make_accelerator(options.device).device
    pixels = (batch for batch, _, _ in track(loader, "student features before training", total=len(loader)))
    features = torch.from_numpy(
        features_before_training(backbone, pixels, device, f"{options.student} ({options.student_init})")
    )
    if torch.equal(features, features[:1].expand_as(features)):
        logger.info("soft labels: no student probe (identical features for all images)")
        return None
    rows = features.split(ROWS_AT_ONCE)
    coordinates = fit_coordinates(rows, options.tcs.dims)
    return torch.cat([coordinates.transform(part) for part in rows])  # in parts: `transform` computes in float64


def _online(teacher: Teacher, readout: Readout, probe: nn.Linear, student: Preprocess) -> OnlineTeacher:
    """Make the online teacher, whose targets are maps for SimKD and logits otherwise."""
    if readout.grid:
        return OnlineTeacher(lambda view: readout.maps(teacher.module, view), student, teacher.preprocess)
    device = next(teacher.module.parameters()).device
    logits = nn.Sequential(teacher.module, probe.to(device)).requires_grad_(False)
    return OnlineTeacher(logits, student, teacher.preprocess)


def _as_linear(probe: LinearProbe) -> nn.Linear:
    linear = nn.Linear(probe.weight.shape[1], probe.weight.shape[0])
    linear.weight.data = torch.from_numpy(probe.weight)
    linear.bias.data = torch.from_numpy(probe.bias)
    return linear.requires_grad_(False)
