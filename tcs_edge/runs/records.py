"""Build the records of images, teacher, student and results for the manifest and the reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from torch import nn

from tcs_edge.data import ImageSet
from tcs_edge.latency.plausibility import load_target_profile
from tcs_edge.runs.documents import (
    CandidateRecord,
    ChoiceRecord,
    CoordinatesRecord,
    PredictionsRecord,
    read_document,
)
from tcs_edge.runs.schema import (
    DatasetRecord,
    ExpectedRecord,
    LatencyRecord,
    StudentRecord,
    TeacherRecord,
)
from tcs_edge.specs.target import Limits, TargetSpec
from tcs_edge.students.accuracy_estimate import RANKING, AccuracyEstimate
from tcs_edge.students.choice import Assessment, Choice, assess_all, pareto_front_of
from tcs_edge.tcs.coordinates import Coordinates
from tcs_edge.teachers.load import TeacherInfo
from tcs_edge.training.fold import deployed_cost
from tcs_edge.validation.predictions import Predictions


def dataset_record(images: ImageSet) -> DatasetRecord:
    """Record name, fingerprint, classes and counts of `images`."""
    return DatasetRecord(
        name=images.name,
        fingerprint=images.fingerprint,
        classes=images.classes,
        counts=images.counts(),
        skipped=len(images.skipped),
        builtin=images.builtin,
    )


def teacher_record(info: TeacherInfo) -> TeacherRecord:
    """Record name, license and weights of the teacher."""
    return TeacherRecord(
        name=info.name, license=info.license, weights_sha256=info.weights_sha256, source=info.weights_source
    )


def student_record(
    chosen: Assessment, model: nn.Module, img_size: int, init: str, peak_memory_mb: float | None
) -> StudentRecord:
    """Record the student for a later rebuild; a local weights file is named without its folder.

    Args:
        chosen: the student with the latency of the selection.
        model: the deployed network, including the layers that a method adds behind the backbone.
        peak_memory_mb: peak memory of the exported model, see `export.memory`.
    """
    params_m, macs_m = deployed_cost(model, img_size)
    return StudentRecord(
        name=chosen.candidate.name,
        init=init if init in ("pretrained", "random") else init.replace("\\", "/").rsplit("/", 1)[-1],
        img_size=img_size,
        params_m=params_m,
        macs_m=macs_m,
        latency=LatencyRecord(**chosen.latency.to_json()) if chosen.latency else None,
        expected_accuracy=_expected_record(chosen.expected),
        peak_memory_mb=peak_memory_mb,
    )


def _expected_record(expected: AccuracyEstimate | None) -> ExpectedRecord | None:
    return ExpectedRecord(**expected.to_json()) if expected else None


def noted_choice(choice: Choice, path: Path) -> Choice:
    """Return `choice` with the winner's accuracy estimate that the run recorded at `path`, if any."""
    noted = read_document(path, ChoiceRecord)
    expected = noted.candidates[0].expected_accuracy if noted else None
    if expected is None:
        return choice
    return replace(choice, winner=replace(choice.winner, expected=AccuracyEstimate(**expected.model_dump())))


def choice_record(choice: Choice, target: TargetSpec, limits: Limits, img_size: int, classes: int) -> ChoiceRecord:
    """Record all candidates, the chosen one first.

    If the user named a student, the other candidates are assessed as well, for comparison.
    """
    others = (*choice.accepted, *choice.rejected)
    named = choice.named
    if named:
        others = assess_all(target, load_target_profile(target), img_size, classes, limits)
    front = {found.label for found in pareto_front_of(found for found in others if not found.reasons)}
    rest = [found for found in others if found.label != choice.winner.label]
    return ChoiceRecord(
        named=named,
        ranking=RANKING[choice.search],
        img_size=img_size,
        limits=limits.model_dump(exclude_none=True),
        candidates=tuple(
            _candidate_record(found, classes, found is choice.winner, found.label in front)
            for found in (choice.winner, *rest)
        ),
    )


def _candidate_record(found: Assessment, classes: int, chosen: bool, on_pareto_front: bool) -> CandidateRecord:
    return CandidateRecord(
        name=found.candidate.name,
        img_size=found.img_size if found.sized else None,
        chosen=chosen,
        params_m=found.candidate.total_params_m(classes),
        size_mb=found.size_mb,
        top1=found.candidate.top1,
        expected_accuracy=_expected_record(found.expected),
        on_pareto_front=on_pareto_front,
        license=found.candidate.license,
        latency=LatencyRecord(**found.latency.to_json()) if found.latency else None,
        reasons=found.reasons,
    )


def coordinates_record(coordinates: Coordinates, ablation: str) -> CoordinatesRecord:
    """Record the spectrum of the teacher's features and the number of coordinates."""
    return CoordinatesRecord(
        dims=coordinates.dims, eigenvalues=tuple(coordinates.eigenvalues.tolist()), ablation=ablation
    )


def predictions_record(predictions: Predictions, names: Iterable[str]) -> PredictionsRecord:
    """Record the predictions with the images' names; bytes that are not UTF-8 become escapes."""
    return PredictionsRecord(
        names=tuple(name.encode("utf-8", "backslashreplace").decode("utf-8") for name in names),
        labels=predictions.labels,
        predicted=predictions.predicted,
        confidences=predictions.confidences,
    )
