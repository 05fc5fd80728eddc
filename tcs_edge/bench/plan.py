"""From what the user asks to the options of every run; what cannot work is said before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tcs_edge.bench.budget import BenchBudget
from tcs_edge.data import ImageSet
from tcs_edge.data.shots import few_shot
from tcs_edge.preparation import prepare, require_means
from tcs_edge.progress import Reporter, Silent
from tcs_edge.specs.config import CompressConfig

# A few hundred steps whatever the number of shots; as many epochs would leave one shot untrained.
FEW_SHOT_BUDGET = BenchBudget(10_000, "images")


def plan_bases(
    options: CompressConfig,
    students: Sequence[str],
    shots: Sequence[int],
    budget: BenchBudget | None,
    arms: Mapping[str, Mapping[str, Any]],
    reporter: Reporter = Silent(),
) -> tuple[CompressConfig, ...]:
    """The options that all arms and seeds share, one per student and number of shots, nothing left open.

    Args:
        options: the user's, checked but not settled.
        students: timm names, or "auto".
        shots: training images per class; empty takes all images.
        arms: as `cells.arms_of`; decides whether a teacher is needed.
        budget: None takes the options' epochs, and `FEW_SHOT_BUDGET` for shots without epochs.

    Raises:
        UsageError: a student that does not fit, or a budget of less than one pass.
        DataError: images that cannot be used, or a class with fewer than the largest number of shots.
        MissingError: no teacher weights.
    """
    if shots and budget is None and options.epochs is None:
        budget = FEW_SHOT_BUDGET
    bases: list[CompressConfig] = []
    for student in students:
        ready = prepare(options.model_copy(update={"student": student, "shots": None}), reporter)
        for count, size in _train_sizes(ready.images, shots, options.seed).items():
            epochs = budget.epochs(size) if budget else ready.options.epochs
            bases.append(ready.options.model_copy(update={"shots": count, "epochs": epochs}))
        reporter = Silent()  # the images are the same for the next student
    if any(changes["method"] != "ce" for changes in arms.values()):
        require_means(bases[0])
    return tuple(bases)


def _train_sizes(images: ImageSet, shots: Sequence[int], seed: int) -> dict[int | None, int]:
    """Number of training images by shots; None stands for all images."""
    if not shots:
        return {None: len(images.train)}
    return {count: len(few_shot(images, count, seed).train) for count in shots}
