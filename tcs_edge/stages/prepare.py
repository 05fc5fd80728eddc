"""Before anything is computed: options settled, images read, a student chosen that fits the target."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tcs_edge.data import ImageSet, Preprocess, load_images
from tcs_edge.data.shots import few_shot
from tcs_edge.data.sizes import typical_side
from tcs_edge.data.unlabeled import with_unlabeled
from tcs_edge.errors import UsageError
from tcs_edge.export.onnx import choose_opset
from tcs_edge.latency.plausibility import load_target_profile, stale_versions
from tcs_edge.models.candidates import CANDIDATES, Candidate
from tcs_edge.models.safetensors_file import check_safetensors
from tcs_edge.profiling.operators import counted_operators
from tcs_edge.project.read import ProjectFile
from tcs_edge.report.pareto import draw_pareto, pareto_lines
from tcs_edge.runs.folder import find_run
from tcs_edge.specs.artifacts import Precision, with_fp32
from tcs_edge.specs.config import CompressConfig, load_config, with_flags
from tcs_edge.specs.strict import validated
from tcs_edge.specs.target import Limits, TargetSpec, int8_outlook, load_target
from tcs_edge.students.accuracy_estimate import RANKING
from tcs_edge.students.build import Init, candidate_from_model, local_file, require_student, student_mean_std
from tcs_edge.students.choice import Choice, choose_student
from tcs_edge.teachers.load import describe_teacher
from tcs_edge.teachers.registry import teacher_spec
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.modes import require_compiler
from tcs_edge.utils.threads import free_cores

logger = logging.getLogger(__name__)

# What the files depend on that are made after the training, and not the training.
EXPORTED = frozenset(
    {"precision", "max_accuracy_drop", "opset", "dynamic_batch", "embed_preprocess", "compiled_latency"}
)
# What may differ when a run goes on: the machine and the files, not the trained model.
RESUMABLE = EXPORTED | {"threads", "workers", "device"}


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs before its first computation; `options` leaves nothing open."""

    options: CompressConfig
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
    def undecided(self) -> bool:
        """Whether several students fit and their ranking waits for a search."""
        waits = self.options.search != "table" and self.choice.search == "table"
        return waits and not self.choice.named and len(self.choice.accepted) > 1

    @property
    def init(self) -> Init:
        """Where the student's first weights come from; of a folder, the student's file in it."""
        given = self.given_init
        return local_file(self.student.name, given) if isinstance(given, Path) else given

    @property
    def given_init(self) -> Init:
        """Where the weights of any student come from, as it was asked for: a path may be a folder."""
        named: dict[str, Init] = {"pretrained": "pretrained", "random": "random"}
        given = self.options.student_init
        return named.get(given, Path(given))


def settle_options(given: Mapping[str, Any], config: Path | None, resume: Path | None) -> CompressConfig:
    """Options from flags, a config file, or the run that goes on; flags win over the file, whose [gate] is left alone.

    Raises:
        SpecError: an unknown option or a wrong value.
        UsageError: options that would change a run that goes on, or no target at all.
    """
    if resume:
        changed = sorted(set(given) - RESUMABLE) + (["config"] if config else [])
        if changed:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
            raise UsageError(f"--resume goes on with the run's own options: leave {flags} out.")
        config = find_run(resume).config
    options = with_flags(load_config(config) if config else {}, given)
    if "target" not in options:
        raise UsageError("no target. Pass --target, for example --target raspberrypi (see `tcs-edge targets`).")
    return validated(ProjectFile, options, config or Path("options")).compress_config()


def asks_for_other_exports(options: CompressConfig, run: Path) -> bool:
    """Whether `options` ask for other files than the folder `run` was made with.

    Raises:
        DataError, SpecError: no run, or one without its options.
    """
    before = settle_options({}, None, run)
    return any(getattr(options, name) != getattr(before, name) for name in EXPORTED)


def prepare(options: CompressConfig) -> Prepared:
    """Read the images, settle what was left open, and choose the student; for now by the table, if a search follows.

    Raises:
        UsageError: unknown names, pickled weights, no such device, or no student fits.
        MissingError: no such weights file.
        DataError: images that cannot be used, or a class with fewer than `options.shots`.
    """
    target = load_target(options.target)
    _require_sense(options)
    choose_opset(target.max_opset, options.opset)
    images = load_images(options.data, options.seed)
    options = _settle_machine(options.resolved(typical_side(images.train)))
    options = options.model_copy(update={"precision": _precisions(options, target)})
    if options.shots:
        images = few_shot(images, options.shots, options.seed, options.rest_unlabeled)
    if options.unlabeled:  # after the draw: training images that were not drawn may join without their labels
        images = with_unlabeled(images, options.unlabeled)
    _tell_images(images, options)
    limits = _limits(options, target)
    choice = _choose(options, target, limits, len(images.classes))
    for rejected in choice.rejected:
        logger.info(f"  rejected {'; '.join(rejected.reasons)}")
    ready = with_choice(Prepared(options, target, images, limits, choice, Preprocess(options.img_size or 0)), choice)
    if ready.undecided:
        return ready
    tell_choice(ready)
    return decided(ready)


def with_choice(ready: Prepared, choice: Choice) -> Prepared:
    """The same run with the winner of `choice` as its student, with that input size."""
    name, img_size = choice.winner.candidate.name, choice.winner.img_size
    mean, std = student_mean_std(name)
    options = ready.options.model_copy(update={"student": name, "img_size": img_size})
    preprocess = Preprocess(img_size, mean=mean, std=std)
    return replace(ready, options=options, choice=choice, preprocess=preprocess)


def decided(ready: Prepared) -> Prepared:
    """The same run, which has its student and input size now: whoever goes on with it searches no more."""
    options = ready.options.model_copy(update={"search_img_sizes": None})
    return replace(ready, options=options.for_student(ready.student.kind))


def require_means(options: CompressConfig) -> None:
    """Fail before a run folder is made: the teacher's weights are here or come now.

    Raises:
        UsageError, DataError: the weights file is of the wrong kind or does not fit.
        MissingError: the weights are not here and cannot be downloaded.
    """
    if options.method != "ce":
        describe_teacher(options.teacher or "", options.teacher_weights, options.teacher_img_size)


def _require_sense(options: CompressConfig) -> None:
    """What can be refused before the images are read, which may take long."""
    accelerator = make_accelerator(options.device, options.train.amp)
    if options.train.compile:
        require_compiler(accelerator.device)
    if options.teacher:
        teacher_spec(options.teacher)
    if options.teacher_weights:
        check_safetensors(options.teacher_weights, "--teacher-weights")
    if options.student != "auto":
        require_student(options.student)
    if options.student_init not in ("auto", "pretrained", "random"):
        _require_weights(options)


def _require_weights(options: CompressConfig) -> None:
    place = Path(options.student_init)
    if options.student != "auto":
        local_file(options.student, place)
    elif not place.is_dir():
        check_safetensors(place, "--student-init")
        if options.search in ("alignment", "halving"):
            raise UsageError(
                f"search {options.search} compares students, and {place} holds one. Pass --student-init FOLDER "
                "with a file for each, or --student NAME."
            )


def _settle_machine(options: CompressConfig) -> CompressConfig:
    """Threads, workers and precision for this machine as it is now."""
    threads = options.threads or free_cores()
    # In-memory digits are cheap to augment; photos keep one process busy beside the training.
    workers = 0 if options.builtin or threads == 1 else min(4, threads - 1)
    precision = make_accelerator(options.device, options.train.amp).mixed_precision
    return options.model_copy(update={
        "threads": threads,
        "workers": workers if options.workers is None else options.workers,
        "train": options.train.model_copy(update={"amp": precision}),
    })  # fmt: skip


def _precisions(options: CompressConfig, target: TargetSpec) -> tuple[Precision, ...]:
    """What the user asked for, else fp32 and what the target advises."""
    chosen = options.precision or with_fp32([target.precision.default])
    if "int8" in chosen:
        logger.info(f"int8 on {target.title}: {int8_outlook(target)}")
    return chosen


def _limits(options: CompressConfig, target: TargetSpec) -> Limits:
    """The user's limits, and the target's own where the user set none."""
    return Limits(
        max_latency_ms=options.max_latency_ms or target.limits.max_latency_ms,
        max_size_mb=options.max_size_mb or target.limits.max_size_mb,
        max_params_m=options.max_params_m or target.limits.max_params_m,
    )


def _choose(options: CompressConfig, target: TargetSpec, limits: Limits, classes: int) -> Choice:
    named = options.student
    if named == "auto":
        candidates = tuple(CANDIDATES.values())
    else:
        candidates = (CANDIDATES.get(named) or candidate_from_model(named),)
    profile = load_target_profile(target)
    for line in stale_versions(profile, target):
        logger.warning(line)
    sizes = options.search_img_sizes or (options.img_size or 0,)
    unlisted = named != "auto" and named not in CANDIDATES
    return choose_student(
        target,
        profile,
        sizes[0],
        classes,
        limits,
        candidates=candidates,
        also_at=sizes[1:],
        tables=counted_operators(named, sizes) if unlisted else None,
    )


def _tell_images(images: ImageSet, options: CompressConfig) -> None:
    if images.builtin:
        teacher = "a tiny built-in teacher" if options.teacher == "digits" else f"teacher {options.teacher}"
        weights = {"random": "random", "pretrained": "pretrained"}.get(options.student_init, "your own")
        logger.info(
            f"This is the built-in demo: handwritten digits that ship with scikit-learn, {teacher}, "
            f"a student from {weights} weights. Pass --data DIR to use your own images."
        )
    names = {"val": "validation", "unlabeled": "without labels"}
    counts = ", ".join(f"{count} {names.get(part, part)}" for part, count in images.counts().items())
    logger.info(f"images: {images.name}, {len(images.classes)} classes, {counts}")


def tell_choice(ready: Prepared) -> None:
    """Say who won, and draw what it was chosen from."""
    choice, target, img_size = ready.choice, ready.target, ready.preprocess.img_size
    for other in choice.accepted[1:]:
        logger.debug(f"  also fits {other.label}")
    _tell_front(choice)
    winner = choice.winner
    latency = winner.latency or "latency unknown"
    logger.info(
        f"student: {winner.candidate.name} at {img_size} px for {target.title}: {latency}, "
        f"{winner.size_mb:.1f} MB ({len(choice.accepted)} fit; {RANKING[choice.search]})"
    )
    if not winner.latency or winner.latency.source != "measured":
        logger.info(
            f"  not measured on that device; to do so: tcs-edge bundle-profiler --target {target.name} "
            f"--model {winner.candidate.name} --img-size {img_size} --out profiler"
        )


def _tell_front(choice: Choice) -> None:
    """The front and its drawing, where there was something to choose from."""
    if choice.named:
        return
    logger.info("no other that fits is more accurate, faster and smaller:")
    winner = choice.winner.label
    # A figure of another search is on another scale: it has no place in the drawing.
    fitting, rejected = (
        [found for found in group if found.expected and found.expected.search == choice.search]
        for group in (choice.accepted, choice.rejected)
    )
    for line in [*pareto_lines(choice.front), *draw_pareto(fitting, rejected, choice.front, winner)]:
        logger.info(line)
