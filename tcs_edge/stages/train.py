"""Training of a student, from a prepared run to the folded model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tcs_edge.methods import DistillationTargets
from tcs_edge.stages.compare_probes import ProbeComparison, compare_probes
from tcs_edge.stages.prepare import Prepared
from tcs_edge.stages.shared_targets import shared_targets
from tcs_edge.stages.targets import (
    gather_features,
    make_targets,
    own_targets,
    shared_moments,
    uses_coordinates,
)
from tcs_edge.students.build import build_student, feature_dim
from tcs_edge.teachers.features import Features
from tcs_edge.teachers.info import TeacherFacts
from tcs_edge.training.distill import TrainingFiles, distill, train_method
from tcs_edge.utils.stopwatch import Stopwatch


@dataclass(frozen=True)
class TeacherTargets:
    """Results of the teacher's pass, without its features.

    Attributes:
        targets: targets of the method; None for cross-entropy alone.
        meta: facts about the teacher and its pass; None for a method without a teacher.
        pass_seconds: duration of the teacher's pass; 0 if every feature was cached.
        probes: the teacher against the student's own features; None if not compared.
    """

    targets: DistillationTargets | None = None
    meta: TeacherFacts | None = None
    pass_seconds: float = 0.0
    probes: ProbeComparison | None = None


def build_backbone(ready: Prepared) -> nn.Module:
    """Return the run's student before training, with its first weights."""
    return build_student(ready.student.name, ready.preprocess.img_size, ready.init, ready.options.seed)


def teach(
    ready: Prepared,
    backbone: nn.Module,
    features: Features | None = None,
    watch: Stopwatch | None = None,
    compare: bool = False,
) -> TeacherTargets:
    """Run the teacher's single pass, or use its `features`, and make the targets of the run's method.

    Args:
        watch: records the stages "teacher" and "coordinates".
        compare: compare the teacher with a pretrained student's own features.

    Raises:
        DataError, MissingError, UsageError: as `gather_features`.
    """
    watch = watch or Stopwatch()
    with watch.stage("teacher"):
        if features is None:
            features = gather_features(ready.images, ready.preprocess, backbone, ready.options)
    with watch.stage("coordinates"):
        if features is None:
            own = own_targets(ready.images, ready.preprocess, backbone, ready.options)
            return TeacherTargets(shared_targets(own, None, ready.preprocess, ready.options))
        inputs = (features, ready.images, ready.preprocess, backbone, ready.options)
        targets = shared_targets(make_targets(*inputs), features, ready.preprocess, ready.options)
        probes = compare_probes(*inputs) if compare else None
    return TeacherTargets(targets, features.meta, features.pass_seconds, probes)


def teach_beside(ready: Prepared, backbone: nn.Module) -> DistillationTargets | None:
    """Do this process's share of rank 0's `teach`, and receive its targets."""
    features = gather_features(ready.images, ready.preprocess, backbone, ready.options)
    if features is not None and uses_coordinates(ready.options):
        shared_moments(features)
    return shared_targets(None, features, ready.preprocess, ready.options)


def train_beside(ready: Prepared, backbone: nn.Module, targets: DistillationTargets | None) -> None:
    """Do this process's share of rank 0's training."""
    width = feature_dim(backbone, ready.preprocess.img_size)
    train_method(backbone, width, ready.images, ready.preprocess, targets, ready.options)


def train_student(
    ready: Prepared,
    files: TrainingFiles,
    backbone: nn.Module | None = None,
    taught: TeacherTargets | None = None,
    resume: bool = False,
    watch: Stopwatch | None = None,
) -> nn.Module:
    """Train the run's student and return the folded model to deploy.

    Neither teacher nor features are in memory while the student trains, unless the teacher is online.

    Args:
        files: paths of the checkpoint and the metrics.
        backbone: result of `build_backbone`, trained in place; None builds it.
        taught: result of `teach`; None runs it.
        resume: continue from `files.checkpoint`.
        watch: records the stages "teacher", "coordinates" and "distill".

    Raises:
        TrainingDiverged: a loss is NaN or Inf.
        ParityFailed: outputs of the folded model differ from the trained one's.
        DataError, MissingError, UsageError: as `teach`.
    """
    watch = watch or Stopwatch()
    backbone = backbone or build_backbone(ready)
    taught = taught or teach(ready, backbone, watch=watch)
    width = feature_dim(backbone, ready.preprocess.img_size)
    with watch.stage("distill"):
        return distill(backbone, width, ready.images, ready.preprocess, taught.targets, ready.options, files, resume)
