"""What a run would do, before it does it: stages, expected time, downloads.

Times come from a trial on this machine with random weights: a batch through the teacher's
architecture, two training steps of the student's. Nothing is downloaded for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tcs_edge.search.student import settle_search
from tcs_edge.specs.config import CompressConfig
from tcs_edge.stages.prepare import Prepared, prepare
from tcs_edge.students.build import build_student, pretrained_file
from tcs_edge.teachers.load import download_size_mb, is_cached, untrained_teacher
from tcs_edge.utils.threads import use_threads

# Exporting, loading two runtimes and comparing took 15 to 40 s for students of 1 to 10 M parameters.
PROOF_SECONDS = 30.0
TRIAL_IMAGES = 8


@dataclass(frozen=True)
class PlannedStage:
    """One stage to come; `seconds` is None where nothing is known beforehand."""

    name: str
    seconds: float | None
    what: str

    def row(self) -> tuple[str, str, str]:
        """Cells of a table."""
        return self.name, "-" if self.seconds is None else f"{self.seconds:.0f}", self.what


@dataclass(frozen=True)
class Plan:
    """The stages of a run in order, and what it would fetch from the network."""

    stages: tuple[PlannedStage, ...]
    downloads: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": 1, **asdict(self)}


def make_plan(options: CompressConfig) -> Plan:
    """Plan a run of `options`; the images are read and the student is chosen, nothing is written."""
    ready = settle_search(prepare(options))
    use_threads(ready.options.threads or 1)
    with_teacher = ready.options.method != "ce"
    stages = (
        *([_teacher_stage(ready)] if with_teacher else []),
        *([_search_stage(ready)] if ready.undecided else []),
        _distil_stage(ready),
        PlannedStage("export and validate", PROOF_SECONDS, "ONNX, OpenVINO, every test image through both"),
    )
    return Plan(stages, tuple(_downloads(ready, with_teacher)))


def _teacher_stage(ready: Prepared) -> PlannedStage:
    options = ready.options
    images = len(ready.images.train) + len(ready.images.val)
    what = f"{options.teacher} sees {images} images once; skipped if they are in the cache"
    return PlannedStage("teacher", _teacher_seconds(options) * images, what)


def _search_stage(ready: Prepared) -> PlannedStage:
    what = f"{ready.options.search} over the {_fitting(ready)}; below, the table's first"
    return PlannedStage("search", None, what)


def _fitting(ready: Prepared) -> str:
    count, sizes = len(ready.choice.accepted), ready.options.search_img_sizes or ()
    several = f", at {', '.join(map(str, sizes))} px" if len(sizes) > 1 else ""
    return f"{count} students that fit{several}"


def _teacher_seconds(options: CompressConfig) -> float:
    """Per image."""
    teacher, img_size = untrained_teacher(options.teacher or "", options.teacher_img_size)
    batch = torch.randn(TRIAL_IMAGES, 3, img_size, img_size)
    with torch.inference_mode():
        return _seconds(lambda: teacher(batch)) / TRIAL_IMAGES


def _distil_stage(ready: Prepared) -> PlannedStage:
    options = ready.options
    epochs, images = options.epochs or 1, len(ready.images.train)
    student = build_student(ready.student.name, ready.preprocess.img_size, "random", 0)
    batch = torch.randn(options.batch_size, 3, ready.preprocess.img_size, ready.preprocess.img_size)
    per_image = _seconds(lambda: student(batch).sum().backward()) / options.batch_size
    what = f"{ready.student.name} at {ready.preprocess.img_size} px, {epochs} epochs of {images} images"
    if options.online_teacher:
        per_image += _teacher_seconds(options)
        what += f", {options.teacher} in the loop"
    return PlannedStage("distill", per_image * epochs * images, what)


def _seconds(step: Callable[[], Any]) -> float:
    """Wall time of the second call; the first one pays for set-up."""
    step()
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _downloads(ready: Prepared, with_teacher: bool) -> list[str]:
    options = ready.options
    wanted = []
    teacher = options.teacher or ""
    if with_teacher and options.teacher_weights is None and not is_cached(teacher):
        wanted.append(f"weights of teacher {teacher}, about {download_size_mb(teacher):.0f} MB")
    student = pretrained_file(ready.student.name)
    if options.student_init == "pretrained" and student and student.cached_path() is None:
        wanted.append(f"weights of student {ready.student.name}, about {4 * ready.student.params_m:.0f} MB")
    return wanted
