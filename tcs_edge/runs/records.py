"""Build the records of images, teacher, student and results for the manifest and the reports."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from tcs_edge.data import ImageSet
from tcs_edge.runs.choice import expected_record
from tcs_edge.runs.documents import CoordinatesRecord, PredictionsRecord
from tcs_edge.runs.schema import DatasetRecord, EmbeddingRecord, LatencyRecord, StudentRecord, TeacherRecord
from tcs_edge.students.choice import Assessment
from tcs_edge.students.embedding import StudentWithEmbedding
from tcs_edge.tcs.coordinates import Coordinates
from tcs_edge.teachers.info import TeacherFacts
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
        test_copies=images.test_copies,
    )


def teacher_record(info: TeacherFacts, probe_accuracy: float | None = None) -> TeacherRecord:
    """Record name, license and weights of the teacher, and the validation accuracy of its linear probe in 0..1."""
    return TeacherRecord(
        name=info.name,
        license=info.license,
        weights_sha256=info.weights_sha256,
        source=info.weights_source,
        probe_accuracy=probe_accuracy,
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
        expected_accuracy=expected_record(chosen.expected),
        peak_memory_mb=peak_memory_mb,
        embedding=_embedding_record(model),
    )


def _embedding_record(model: nn.Module) -> EmbeddingRecord | None:
    if not isinstance(model, StudentWithEmbedding):
        return None
    return EmbeddingRecord(size=model.embedding_size, space=model.kind)


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
