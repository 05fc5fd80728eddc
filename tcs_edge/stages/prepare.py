"""Preparation of a run: read the images, and list the students that fit the target."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from tcs_edge.data import ImageSet, Preprocess, load_images
from tcs_edge.data.cache import with_copies
from tcs_edge.data.intake_photos import IntakePhotos
from tcs_edge.data.shots import few_shot
from tcs_edge.data.sizes import typical_side
from tcs_edge.data.unlabeled import with_unlabeled
from tcs_edge.errors import UsageError
from tcs_edge.export.onnx import choose_opset
from tcs_edge.latency.plausibility import load_target_profile, profile_warnings
from tcs_edge.models.candidates import CANDIDATES, Candidate, listed_candidate
from tcs_edge.models.safetensors_file import check_safetensors
from tcs_edge.profiling.operators import counted_operators
from tcs_edge.runtimes.registry import runtimes_for
from tcs_edge.specs.artifacts import Precision, with_fp32
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.defaults import ChosenStudent, Machine, resolve, with_data_defaults
from tcs_edge.specs.options import SearchName
from tcs_edge.specs.target import (
    Limits,
    TargetSpec,
    int8_outlook,
    load_target,
    refuse_amx_dynamic_int8,
    refuse_other_runtime,
)
from tcs_edge.students.build import Init, candidate_from_model, local_file, require_student, student_mean_std
from tcs_edge.students.choice import Assessment, Choice, choose_student, limits_on
from tcs_edge.students.recognize import only_file, student_of
from tcs_edge.teachers.registry import teacher_spec
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.modes import require_compiler
from tcs_edge.training.tracking import require_trackers
from tcs_edge.utils.installed import OF_A_RUN, require_installed
from tcs_edge.utils.threads import free_cores

logger = logging.getLogger(__name__)

MOST_WORKERS = 4  # the training needs the other cores
MOST_WORKERS_OF_A_GPU = 16
INIT_WORDS = ("auto", "pretrained", "random")


def init_of(student_init: str) -> Init:
    """Return the source of first weights that `student_init` names: a word, a file or a folder."""
    named: dict[str, Init] = {"pretrained": "pretrained", "random": "random"}
    return named.get(student_init, Path(student_init))


@dataclass(frozen=True)
class Prepared:
    """Inputs of a run, resolved before its first computation."""

    options: ResolvedConfig
    target: TargetSpec
    images: ImageSet
    limits: Limits
    choice: Choice
    preprocess: Preprocess

    @property
    def student(self) -> Candidate:
        """The chosen student."""
        return self.choice.winner.candidate

    @property
    def init(self) -> Init:
        """Source of the student's first weights; for a folder, the student's file in it."""
        given = init_of(self.options.student_init)
        return local_file(self.student.name, given) if isinstance(given, Path) else given


@dataclass(frozen=True)
class Shortlist:
    """The students that fit, ranked by published accuracy, before one is selected.

    Attributes:
        asked: options with the defaults of the images.
        precision: precisions of the files to export.
    """

    asked: CompressConfig
    target: TargetSpec
    images: ImageSet
    limits: Limits
    choice: Choice
    precision: tuple[Precision, ...]
    machine: Machine

    @property
    def open(self) -> bool:
        """True if several students fit and the user named none."""
        return not self.choice.named and len(self.choice.accepted) > 1

    @property
    def init(self) -> Init:
        """Source of the students' first weights: a word, a file or a folder."""
        return init_of(self.asked.student_init)

    def resolved(self, found: Assessment, search: SearchName | None = None) -> ResolvedConfig:
        """Return the options of a run with the student `found`.

        Args:
            search: the search that ranked it; None keeps the search of `asked`, as a resumed run does.
        """
        search = search or ("table" if self.asked.search == "auto" else self.asked.search)
        candidate = found.candidate
        student = ChosenStudent(candidate.name, candidate.kind, found.img_size)
        return resolve(self.asked, student, search, self.precision, self.machine, len(self.images.train))

    def prepared(self, choice: Choice | None = None, search: SearchName | None = None) -> Prepared:
        """Return the run with the winner of `choice`; None takes the first student by published accuracy."""
        choice = choice or self.choice
        winner = choice.winner
        mean, std = student_mean_std(winner.candidate.name)
        preprocess = Preprocess(winner.img_size, mean=mean, std=std)
        options = self.resolved(winner, search)
        images = with_copies(self.images, preprocess, options.cache_gb, options.cache_dir)
        return Prepared(options, self.target, images, self.limits, choice, preprocess)


def list_students(asked: CompressConfig, keep_photos: bool = False) -> Shortlist:
    """Read the images, fill in the defaults that depend on them, and list the students that fit the target.

    Args:
        keep_photos: keep the large photos that the check of the images decodes, for a run that follows.

    Raises:
        UsageError: unknown names, pickled weights, weights of no student or of several, no such device, or no student
            fits.
        MissingError: no such weights file, or a package that the run needs is not installed.
        DataError: unusable images, or a class with fewer than `asked.shots`.
    """
    require_installed(OF_A_RUN)
    target = load_target(asked.target)
    require_usable_options(asked)
    _require_files(asked)
    asked = _with_student_of_weights(asked)
    refuse_other_runtime(target, asked.runtime)
    choose_opset(target.max_opset, asked.opset)
    precision = _precisions(asked, target)
    require_installed(["nncf"] if "int8" in precision else [])
    for runtime in runtimes_for(asked.format or ()):
        if runtime.require:
            runtime.require()
    refuse_amx_dynamic_int8(target, precision, asked.dynamic_batch)
    columns, leaks = asked.column or (), asked.allow_leaks
    photos = IntakePhotos(int(asked.cache_gb * 1e9), asked.cache_dir) if keep_photos else None
    images = load_images(asked.data, asked.seed, asked.exclude or (), asked.cache_dir, columns, leaks, photos)
    asked = with_data_defaults(asked, typical_side(images.train))
    if asked.shots:
        images = few_shot(images, asked.shots, asked.seed, asked.rest_unlabeled)
    if asked.unlabeled:  # after the draw, so that images that were not drawn may join without their labels
        images = with_unlabeled(images, asked.unlabeled, asked.exclude or (), asked.cache_dir, photos)
    images = replace(images, train=replace(images.train, photos=photos), val=replace(images.val, photos=photos))
    limits = limits_on(
        target,
        Limits(max_latency_ms=asked.max_latency_ms, max_size_mb=asked.max_size_mb, max_params_m=asked.max_params_m),
    )
    choice = _fitting(asked, target, limits, len(images.classes), precision)
    return Shortlist(asked, target, images, limits, choice, precision, _machine(asked))


def require_usable_options(asked: CompressConfig) -> None:
    """Refuse a device or a name without reading a file.

    Raises:
        UsageError: no such device, an unknown name, or a device that lacks support for `asked.train`.
        MissingError: torch.compile lacks its compiler, or a tracker is not installed.
    """
    accelerator = make_accelerator(asked.device, asked.train.amp)
    require_trackers(asked.log or ())
    if asked.train.compile:
        require_compiler(accelerator.device)
    if asked.teacher and not asked.teacher_file:
        teacher_spec(asked.teacher)
    if asked.student != "auto":
        require_student(asked.student)


def _require_files(asked: CompressConfig) -> None:
    if asked.teacher_weights:
        check_safetensors(asked.teacher_weights, "--teacher-weights")
    if asked.student_init not in INIT_WORDS:
        _require_weights(asked)


def _require_weights(asked: CompressConfig) -> None:
    place = Path(asked.student_init)
    if asked.student != "auto":
        local_file(asked.student, place)
    elif not place.is_dir():
        check_safetensors(place, "--student-init")
        if asked.search in ("alignment", "halving"):
            raise UsageError(
                f"search {asked.search} needs weights of several students, but {place} has those for one. "
                "Pass --student-init FOLDER with a file for each, or --student NAME."
            )


def _with_student_of_weights(asked: CompressConfig) -> CompressConfig:
    """Name the student whose weights the user passed, if they are those of one student."""
    if asked.student != "auto" or asked.student_init in INIT_WORDS:
        return asked
    file = only_file(Path(asked.student_init))
    if file is None:
        return asked
    name = student_of(file)
    logger.info(f"student: {name} (the tensors of {file.name} are those of this student)")
    return asked.replaced(student=name, student_init=str(file))


def _machine(asked: CompressConfig) -> Machine:
    """Return threads, workers and mixed precision for the present load of this machine."""
    threads = asked.threads or free_cores()
    # In-memory digits are cheap to augment; images in files keep a process busy beside the training.
    accelerator = make_accelerator(asked.device, asked.train.amp)
    most = MOST_WORKERS_OF_A_GPU if accelerator.device.type == "cuda" else MOST_WORKERS
    workers = 0 if asked.builtin or threads == 1 else min(most, threads - 1)
    return Machine(threads, workers, accelerator.mixed_precision)


def _precisions(asked: CompressConfig, target: TargetSpec) -> tuple[Precision, ...]:
    """Return the user's precisions, or else fp32 and the target's advice."""
    chosen = asked.precision or with_fp32([target.precision.default])
    if "int8" in chosen:
        logger.info(f"int8 on {target.title}: {int8_outlook(target)}")
    return chosen


def _held_candidates(asked: CompressConfig) -> tuple[Candidate, ...]:
    """Return the candidates that every format on request holds, as far as known, and log how many it does not."""
    lacking = {
        runtime.name: runtime.own_format.lacking
        for runtime in runtimes_for(asked.format or ())
        if runtime.own_format and runtime.own_format.lacking
    }
    for name, names in lacking.items():
        logger.info(f"left out: {len(names)} of {len(CANDIDATES)} students, which {name} does not hold")
    without = frozenset().union(*lacking.values())
    return tuple(candidate for name, candidate in CANDIDATES.items() if name not in without)


def _fitting(
    asked: CompressConfig, target: TargetSpec, limits: Limits, classes: int, precision: tuple[Precision, ...]
) -> Choice:
    named = asked.student
    if named == "auto":
        candidates = _held_candidates(asked)
    else:
        candidates = (listed_candidate(named) or candidate_from_model(named),)
    profile = load_target_profile(target)
    for line in profile_warnings(profile, target):
        logger.warning(line)
    sizes = asked.img_sizes
    unlisted = named != "auto" and listed_candidate(named) is None
    return choose_student(
        target,
        profile,
        sizes[0],
        classes,
        limits,
        candidates=candidates,
        runtime=asked.runtime,
        also_at=sizes[1:],
        precisions=precision,
        max_accuracy_drop=asked.max_accuracy_drop,
        tables=counted_operators(candidates[0].architecture, sizes) if unlisted else None,
    )
