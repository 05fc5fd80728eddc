"""Collect the licenses of a trained student: of the teacher, the initial weights and the images."""

from __future__ import annotations

from dataclasses import dataclass

from tcs_edge.models.candidates import listed_candidate
from tcs_edge.runs.schema import Manifest

SPDX = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0",
}
UNKNOWN = "unknown"
DIGITS_LICENSE = "cc-by-4.0"


@dataclass(frozen=True)
class License:
    """One declared license, in lower case as in timm, and the object it applies to."""

    of: str
    name: str
    remark: str = ""

    @property
    def spdx(self) -> str | None:
        """SPDX identifier; None for an unknown license."""
        return SPDX.get(self.name.lower())

    def __str__(self) -> str:
        return f"{self.of}: {self.name}{f' ({self.remark})' if self.remark else ''}"


def licenses_of(manifest: Manifest) -> tuple[License, ...]:
    """Return the licenses that apply to a distributed model; an undeclared one is "unknown"."""
    teacher = manifest.teacher
    found = [_first_weights(manifest)]
    if teacher is not None:
        found.insert(0, License(f"teacher {teacher.name}", teacher.license, f"weights from {teacher.source}"))
    data = License("images", DIGITS_LICENSE, "UCI handwritten digits") if manifest.dataset.builtin else None
    return (*found, data or License(f"images {manifest.dataset.name}", UNKNOWN, "not declared"))


def student_license(manifest: Manifest) -> str:
    """Return the license of the student's initial weights: "none" for random ones."""
    student = manifest.student
    if student.init == "random":
        return "none"
    known = listed_candidate(student.name)
    return (known.license if known and student.init == "pretrained" else None) or UNKNOWN


def _first_weights(manifest: Manifest) -> License:
    student = manifest.student
    remark = "random initial weights" if student.init == "random" else f"initial weights: {student.init}"
    return License(f"student {student.name}", student_license(manifest), remark)
