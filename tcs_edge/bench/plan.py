"""Plan of a comparison: options of every run, with all checks of the options before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from tcs_edge.bench.budget import BenchBudget
from tcs_edge.bench.grid import SharedOptions, make_runs
from tcs_edge.data.images import ImageSet
from tcs_edge.data.shots import few_shot
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.stages.prepare import Shortlist, list_students
from tcs_edge.teachers.given import given_features
from tcs_edge.teachers.source import describe
from tcs_edge.utils.files import sha256_file
from tcs_edge.utils.logs import warnings_only
from tcs_edge.utils.version import __version__

# A few hundred steps for any number of shots. A fixed number of epochs would barely train one shot.
FEW_SHOT_BUDGET = BenchBudget(10_000, "images")


def plan_shared(
    options: CompressConfig,
    students: Sequence[str],
    shots: Sequence[int | None],
    budget: BenchBudget | None,
    arms: Mapping[str, Mapping[str, Any]],
) -> tuple[SharedOptions, ...]:
    """Resolve the options that all arms and seeds share, one per student and number of shots.

    Args:
        options: the user's options.
        students: timm names, or "auto".
        shots: training images per class; None uses all images.
        arms: result of `grid.arms_of`; some arms need a teacher.
        budget: None uses the options' epochs, or `FEW_SHOT_BUDGET` for shots without epochs.

    Raises:
        UsageError: a student that does not fit, or a budget of less than one pass.
        SpecError: an option that an arm does not support.
        DataError: unusable images, a class with fewer images than the largest number of shots, or a file of features
            without some images.
        MissingError: no teacher weights.
    """
    if any(shots) and budget is None and options.epochs is None:
        budget = FEW_SHOT_BUDGET
    shared: list[SharedOptions] = []
    for number, student in enumerate(students):
        # The bench compares methods, so "auto" takes the table's student, which needs no teacher.
        all_images = options.replaced(student=student, search="table", shots=None, rest_unlabeled=False)
        with warnings_only() if number else nullcontext():  # log the images once, for the first student
            listed = list_students(all_images)
        shared += [_shared(listed, count, options.rest_unlabeled, budget) for count in shots]
    runs = make_runs(shared[:1], arms, [options.seed])
    taught = next((run.options for run in runs if run.options.has_teacher), None)
    common = (
        ("images", listed.images.fingerprint + listed.images.unlabeled_fingerprint),
        ("teacher", _teacher_content(taught, listed.images) if taught else ""),
        ("version", __version__),
    )
    return tuple(replace(one, inputs=(*common, *one.inputs)) for one in shared)


def _teacher_content(options: ResolvedConfig, images: ImageSet) -> str:
    """Return the sha256 (hex) of the teacher's weights, or of the file of its features, which has all images."""
    if options.teacher_features:
        return given_features(images, options.teacher_features).meta.weights_sha256
    return describe(options).weights_sha256


def _shared(listed: Shortlist, shots: int | None, rest_unlabeled: bool, budget: BenchBudget | None) -> SharedOptions:
    asked = listed.asked.replaced(shots=shots, rest_unlabeled=rest_unlabeled and bool(shots))
    images = few_shot(listed.images, shots, asked.seed, asked.rest_unlabeled) if shots else listed.images
    total, labeled = len(images.train), len(images.train.labeled)
    if budget:
        asked = asked.replaced(epochs=budget.epochs(total))
    ready = replace(listed, asked=asked).prepared()
    first_weights = (("student_init", sha256_file(ready.init)),) if isinstance(ready.init, Path) else ()
    labeled_epochs = None if labeled == total else round(ready.options.epochs * total / labeled)
    return SharedOptions(ready.options, labeled_epochs, first_weights)
