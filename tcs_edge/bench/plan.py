"""From what the user asks to the options of every run; what cannot work is said before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from tcs_edge.bench.budget import BenchBudget
from tcs_edge.bench.grid import SharedOptions
from tcs_edge.data import ImageSet
from tcs_edge.data.shots import few_shot
from tcs_edge.specs.config import CompressConfig
from tcs_edge.stages.prepare import Prepared, prepare, require_means
from tcs_edge.utils.logs import warnings_only

# A few hundred steps whatever the number of shots; as many epochs would leave one shot untrained.
FEW_SHOT_BUDGET = BenchBudget(10_000, "images")


def plan_shared(
    options: CompressConfig,
    students: Sequence[str],
    shots: Sequence[int | None],
    budget: BenchBudget | None,
    arms: Mapping[str, Mapping[str, Any]],
) -> tuple[SharedOptions, ...]:
    """The options that all arms and seeds share, one per student and number of shots, nothing left open.

    Args:
        options: the user's, checked but not settled.
        students: timm names, or "auto".
        shots: training images per class; None stands for all images.
        arms: as `runs.arms_of`; decides whether a teacher is needed.
        budget: None takes the options' epochs, and `FEW_SHOT_BUDGET` for shots without epochs.

    Raises:
        UsageError: a student that does not fit, or a budget of less than one pass.
        DataError: images that cannot be used, or a class with fewer than the largest number of shots.
        MissingError: no teacher weights.
    """
    if any(shots) and budget is None and options.epochs is None:
        budget = FEW_SHOT_BUDGET
    shared: list[SharedOptions] = []
    for number, student in enumerate(students):
        # Methods are compared here, so "auto" is settled by what needs no teacher.
        all_images = {"student": student, "search": "table", "shots": None}
        with warnings_only() if number else nullcontext():  # the images are the same for every student
            ready = prepare(options.model_copy(update=all_images))
        shared += [_base(ready.options, count, _draw(ready, count), budget) for count in shots]
    if any(changes["method"] != "ce" for changes in arms.values()):
        require_means(shared[0].options)
    return tuple(shared)


def _draw(ready: Prepared, shots: int | None) -> ImageSet:
    options = ready.options
    return few_shot(ready.images, shots, options.seed, options.rest_unlabeled) if shots else ready.images


def _base(options: CompressConfig, shots: int | None, images: ImageSet, budget: BenchBudget | None) -> SharedOptions:
    total, labeled = len(images.train), len(images.train.labeled)
    epochs = budget.epochs(total) if budget else options.epochs or 1
    settled = options.model_copy(update={"shots": shots, "epochs": epochs})
    return SharedOptions(settled, None if labeled == total else round(epochs * total / labeled))
