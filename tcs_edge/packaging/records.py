"""What a manifest says of the images, the teacher and the student, from the things themselves."""

from __future__ import annotations

from tcs_edge.data import ImageSet
from tcs_edge.packaging.manifest import DatasetRecord, StudentRecord, TeacherRecord
from tcs_edge.specs.config import CompressConfig
from tcs_edge.students.candidates import Candidate
from tcs_edge.teachers.load import TeacherInfo

MACS_IMG_SIZE = 224


def dataset_record(images: ImageSet) -> DatasetRecord:
    """Name, fingerprint, classes and counts of `images`."""
    return DatasetRecord(
        name=images.name,
        fingerprint=images.fingerprint,
        classes=images.classes,
        counts={"train": len(images.train), "val": len(images.val), "test": len(images.test)},
        skipped=len(images.skipped),
        builtin=images.builtin,
    )


def teacher_record(info: TeacherInfo) -> TeacherRecord:
    """Name, licence and exact weights of the teacher."""
    return TeacherRecord(
        name=info.name, licence=info.licence, weights_sha256=info.weights_sha256, source=info.weights_source
    )


def student_record(candidate: Candidate, classes: int, options: CompressConfig) -> StudentRecord:
    """What it takes to build the student again; a local weights file is named without its folder."""
    img_size = options.img_size or MACS_IMG_SIZE
    init = options.student_init
    return StudentRecord(
        name=candidate.name,
        init=init if init in ("pretrained", "random") else init.replace("\\", "/").rsplit("/", 1)[-1],
        img_size=img_size,
        params_m=candidate.total_params_m(classes),
        macs_m=candidate.macs_m * (img_size / MACS_IMG_SIZE) ** 2,
    )
