"""The plan of a run: its stages with their expected times, cached features, and downloads.

Times come from a trial on this machine with random weights: some images through the teacher's architecture, and
a training step of the student. Nothing is downloaded or written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tcs_edge.latency.plausibility import candidate_macs_m
from tcs_edge.pipeline.announce import announce_images, announce_student
from tcs_edge.search.alignment import SAMPLE_IMAGES
from tcs_edge.search.halving import plan_rounds
from tcs_edge.search.student import resolve_search
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.options import SearchName
from tcs_edge.stages.prepare import Prepared, Shortlist, list_students
from tcs_edge.students.build import build_student, pretrained_file, pretrained_mb
from tcs_edge.teachers.batch_size import ON_CPU
from tcs_edge.teachers.load import build_teacher, download_size_mb, is_cached, untrained_teacher
from tcs_edge.teachers.source import describe, images_at_hand
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.trainer import validates
from tcs_edge.utils.durations import format_seconds
from tcs_edge.utils.threads import use_threads

# Exporting, loading two runtimes and comparing took 15 to 40 s for students of 1 to 10 M parameters.
VALIDATE_SECONDS = 30.0
# One core, both formats, all rounds (docs/how-to/precision.md): a CNN, and a transformer.
INT8_SECONDS, INT8_TRANSFORMER_SECONDS = 61.0, 325.0
# Images of two trials before the one with a whole batch: the first pays for set-up, batch normalization needs two.
TRIAL_IMAGES = (2, 8)
LONG_SECONDS = 3.0  # skip trials that would take longer
FORWARD_SHARE = 1 / 3  # of a training step, whose backward pass costs twice the forward pass


@dataclass(frozen=True)
class PlannedStage:
    """A stage of the plan, with its expected seconds."""

    name: str
    seconds: float
    what: str

    def row(self) -> tuple[str, str, str]:
        """Cells of a table."""
        return self.name, format_seconds(self.seconds) if self.seconds else "-", self.what


@dataclass(frozen=True)
class Plan:
    """The stages of a run in order, and its downloads."""

    stages: tuple[PlannedStage, ...]
    downloads: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Expected time of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    def rows(self) -> list[tuple[str, str, str]]:
        """Cells of a table: every stage, then the total."""
        return [*(stage.row() for stage in self.stages), ("total", format_seconds(self.seconds), "")]

    def to_json(self) -> dict[str, Any]:
        """All fields and the total, as JSON values."""
        return {"schema_version": 1, **asdict(self), "seconds": self.seconds}


def make_plan(options: CompressConfig) -> Plan:
    """Plan a run of `options`: read the images, choose the student, and time a trial."""
    listed = list_students(options)
    announce_images(listed)
    search, ready = resolve_search(listed), listed.prepared()
    announce_student(ready)
    use_threads(ready.options.threads)
    trial = _Trial(ready)
    stages = (
        *([_teacher_stage(ready, trial)] if trial.with_teacher else []),
        *([_search_stage(listed, search, trial)] if search != "table" else []),
        _distill_stage(ready, trial),
        *([_int8_stage(ready)] if "int8" in ready.options.precision else []),
        PlannedStage("export and validate", VALIDATE_SECONDS, "ONNX, OpenVINO, every test image through both"),
    )
    return Plan(stages, tuple(_downloads(ready, trial.with_teacher)))


class _Trial:
    """Seconds for each image, measured on the run's own device at first use."""

    def __init__(self, ready: Prepared) -> None:
        self.ready = ready
        self.with_teacher = ready.options.has_teacher
        self.accelerator = make_accelerator(ready.options.device, ready.options.train.amp)
        self._teacher: float | None = None
        self._student: float | None = None

    @property
    def teacher(self) -> float:
        """Seconds of the teacher for each image."""
        if self._teacher is None:
            options, device = self.ready.options, self.accelerator.device
            if options.teacher_onnx:
                teacher = build_teacher(describe(options), device)
                model, img_size = teacher.module, teacher.preprocess.img_size
            else:
                model, img_size = untrained_teacher(options.teacher, options.teacher_img_size)
            with torch.inference_mode():
                self._teacher = _seconds_per_image(model.to(device), img_size, device, ON_CPU)
        return self._teacher

    @property
    def student(self) -> float:
        """Seconds of a training step for each image; an online teacher is counted too."""
        if self._student is None:
            ready, img_size, device = self.ready, self.ready.preprocess.img_size, self.accelerator.device
            model = build_student(ready.student.name, img_size, "random", 0)
            model = model.to(device, memory_format=torch.channels_last)

            def step(batch: torch.Tensor) -> None:
                with self.accelerator.autocast():
                    loss = model(batch.contiguous(memory_format=torch.channels_last)).sum()
                loss.backward()

            self._student = _seconds_per_image(step, img_size, device, ready.options.batch_size)
        return self._student + (self.teacher if self.ready.options.online_teacher else 0.0)


def _teacher_stage(ready: Prepared, trial: _Trial) -> PlannedStage:
    options = ready.options
    images = len(ready.images.train) + len(ready.images.val)
    if options.method_facts.targets == "maps":  # its feature maps depend on the student
        return PlannedStage("teacher", trial.teacher * images, f"{options.teacher}, feature maps of {images} images")
    cached = images_at_hand(ready.images, options)
    if options.teacher_features:
        return PlannedStage("teacher", 0.0, f"{options.teacher}, features of {images} images")
    seconds = trial.teacher * (images - cached) if cached < images else 0.0
    return PlannedStage("teacher", seconds, f"{options.teacher}, {cached} of {images} images are cached")


def _search_stage(listed: Shortlist, search: SearchName, trial: _Trial) -> PlannedStage:
    """Plan the search; the time of each student is proportional to its multiply-accumulates."""
    fitting = [found.sized_candidate for found in listed.choice.accepted]
    macs = [candidate_macs_m(candidate, img_size) for candidate, img_size in fitting]
    first = candidate_macs_m(trial.ready.student, trial.ready.preprocess.img_size)
    images = len(listed.images.train)
    if search == "halving":
        rounds = plan_rounds(len(fitting), trial.ready.options.epochs)
        passes = sum(one.students * one.epochs for one in rounds) / len(fitting) * images
    else:
        passes = FORWARD_SHARE * min(images, SAMPLE_IMAGES)
    sizes = listed.asked.img_sizes
    several = f", at {', '.join(map(str, sizes))} px" if len(sizes) > 1 else ""
    what = f"{search} over the {len(fitting)} students that fit{several} (distill: the table's first student)"
    return PlannedStage("search", trial.student * sum(macs) / first * passes, what)


def _distill_stage(ready: Prepared, trial: _Trial) -> PlannedStage:
    options = ready.options
    epochs, images = options.epochs, len(ready.images.train)
    if not options.method_facts.trains:
        seconds = FORWARD_SHARE * trial.student * (images + len(ready.images.val))
        what = f"{ready.student.name} at {ready.preprocess.img_size} px, without training"
        return PlannedStage("distill", seconds, what)
    checks = sum(validates(epoch, epochs) for epoch in range(epochs))
    passes = epochs * images + FORWARD_SHARE * checks * len(ready.images.val)
    online = f", {options.teacher} in memory" if options.online_teacher else ""
    what = f"{ready.student.name} at {ready.preprocess.img_size} px, {epochs} epochs of {images} images{online}"
    return PlannedStage("distill", trial.student * passes, what)


def _int8_stage(ready: Prepared) -> PlannedStage:
    seconds = INT8_TRANSFORMER_SECONDS if ready.student.kind == "transformer" else INT8_SECONDS
    return PlannedStage("int8", seconds, "calibration, and float layers where int8 loses accuracy")


def _seconds_per_image(step: Callable[[torch.Tensor], Any], img_size: int, device: torch.device, most: int) -> float:
    """Wall time for each image of the largest batch, of at most `most` images, within `LONG_SECONDS`."""
    seconds = 0.0
    for count in (*TRIAL_IMAGES, most):
        if count * seconds > LONG_SECONDS:
            break
        batch = torch.randn(count, 3, img_size, img_size, device=device)
        _wait_for(device)
        started = time.perf_counter()
        step(batch)
        _wait_for(device)
        seconds = (time.perf_counter() - started) / count
    return seconds


def _wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _downloads(ready: Prepared, with_teacher: bool) -> list[str]:
    options = ready.options
    wanted = []
    teacher = options.teacher
    local = options.teacher_file or options.teacher_weights
    if with_teacher and local is None and not is_cached(teacher):
        wanted.append(f"weights of teacher {teacher}, about {download_size_mb(teacher):.0f} MB")
    student = pretrained_file(ready.student.name)
    if options.student_init == "pretrained" and student and student.cached_path() is None:
        wanted.append(f"weights of student {ready.student.name}, about {pretrained_mb(ready.student.name):.0f} MB")
    return wanted
