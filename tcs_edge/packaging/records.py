"""What a manifest says of the images, the teacher and the student, from the things themselves."""

from __future__ import annotations

from torch import nn

from tcs_edge.data import ImageSet
from tcs_edge.packaging.manifest import DatasetRecord, LatencyRecord, StudentRecord, TeacherRecord
from tcs_edge.students.choice import Assessment
from tcs_edge.teachers.load import TeacherInfo
from tcs_edge.training.deployed import deployed_cost


def dataset_record(images: ImageSet) -> DatasetRecord:
    """Name, fingerprint, classes and counts of `images`."""
    return DatasetRecord(
        name=images.name,
        fingerprint=images.fingerprint,
        classes=images.classes,
        counts=images.counts(),
        skipped=len(images.skipped),
        builtin=images.builtin,
    )


def teacher_record(info: TeacherInfo) -> TeacherRecord:
    """Name, licence and exact weights of the teacher."""
    return TeacherRecord(
        name=info.name, licence=info.licence, weights_sha256=info.weights_sha256, source=info.weights_source
    )


def student_record(
    chosen: Assessment, model: nn.Module, img_size: int, init: str, peak_memory_mb: float | None
) -> StudentRecord:
    """What it takes to build the student again; a local weights file is named without its folder.

    Args:
        chosen: the student with the latency that it was chosen by.
        model: as it is deployed, with everything that a method puts behind the backbone: it is what is counted.
        peak_memory_mb: of the exported model, see `export.memory`.
    """
    params_m, macs_m = deployed_cost(model, img_size)
    return StudentRecord(
        name=chosen.candidate.name,
        init=init if init in ("pretrained", "random") else init.replace("\\", "/").rsplit("/", 1)[-1],
        img_size=img_size,
        params_m=params_m,
        macs_m=macs_m,
        latency=LatencyRecord(**chosen.latency.to_json()) if chosen.latency else None,
        peak_memory_mb=peak_memory_mb,
    )
