"""Search by successive halving (Jamieson, Talwalkar 2016): short TCS runs, the better third goes on for longer.

Candidates run with every input size that is asked for, all on the teacher's one pass.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tcs_edge.errors import DataError, MissingError, TrainingDiverged, UsageError, reason_of
from tcs_edge.methods import DistillationTargets
from tcs_edge.models.candidates import SizedCandidate
from tcs_edge.search.alignment import by_table_because
from tcs_edge.stages.prepare import Prepared
from tcs_edge.stages.targets import make_targets, student_is_asked
from tcs_edge.students.accuracy_estimate import AccuracyEstimate
from tcs_edge.students.build import build_student, feature_dim, student_mean_std
from tcs_edge.teachers.features import Features
from tcs_edge.training.distill import TrainingFiles, distill
from tcs_edge.utils.progress import track

logger = logging.getLogger(__name__)

KEPT_OF = 3  # one in three goes on, for three times as many epochs
SHOWN = 5

# Validation accuracy in 0..1 after so many epochs; raises UsageError, DataError, MissingError or TrainingDiverged
# for a student that cannot be trained.
Learn = Callable[[SizedCandidate, int], float]


@dataclass(frozen=True)
class Round:
    """So many students learn for so many epochs each."""

    students: int
    epochs: int


def plan_rounds(students: int, epochs: int) -> tuple[Round, ...]:
    """Rounds until one student is left, the last of a third of the full run's `epochs`.

    Each round costs at most about one full run; more where an early round gets one epoch instead of less than one.
    """
    left, sizes = students, [students]
    while left > KEPT_OF:
        left = -(-left // KEPT_OF)
        sizes.append(left)
    last = len(sizes) - 1
    return tuple(Round(size, max(1, round(epochs / KEPT_OF ** (last - index + 1)))) for index, size in enumerate(sizes))


def by_halving(
    sized: Sequence[SizedCandidate], epochs: int, learn: Learn
) -> dict[SizedCandidate, AccuracyEstimate | None]:
    """What to expect of each sized: its validation accuracy in the last round that it was in.

    Args:
        sized: in the order that decides ties.
        epochs: of a full run.
    """
    expected: dict[SizedCandidate, AccuracyEstimate | None] = {}
    left, rounds = list(sized), plan_rounds(len(sized), epochs)
    for number, planned in enumerate(rounds, 1):
        if not (left := left[: planned.students]):
            break
        what = f"round {number} of {len(rounds)}"
        logger.info(f"search halving, {what}: {len(left)} students, {_epochs(planned.epochs)} each")
        found = {
            sized: _result(sized, planned.epochs, learn, number, what) for sized in track(left, what, total=len(left))
        }
        expected |= found
        left = _best_first(found, number)
        best = (f"{one.candidate.name} at {one.img_size} px {_percent(found[one]):.1f} %" for one in left[:SHOWN])
        logger.info(f"  best: {', '.join(best)}")
    return expected


def short_runs(ready: Prepared, features: Features) -> Learn:
    """TCS runs on the teacher's features, whatever method the run itself has; nothing of them is kept."""
    options = ready.options.model_copy(update={"method": "tcs", "online_teacher": False})
    images = ready.images

    @cache
    def of_the_teacher() -> DistillationTargets:
        # The winner's run says of the teacher what there is to say.
        return make_targets(features, images, ready.preprocess, None, options)

    def learn(sized: SizedCandidate, epochs: int) -> float:
        candidate, img_size = sized
        mean, std = student_mean_std(candidate.name)
        preprocess = replace(ready.preprocess, img_size=img_size, mean=mean, std=std)
        backbone = build_student(candidate.name, img_size, ready.given_init, options.seed)
        short = options.for_student(candidate.kind).model_copy(
            update={"student": candidate.name, "img_size": img_size, "epochs": epochs}
        )
        if student_is_asked(short):
            knowledge = make_targets(features, images, preprocess, backbone, short)
        else:
            knowledge = of_the_teacher()
        with tempfile.TemporaryDirectory(prefix="tcs-edge-search-") as folder:
            files = TrainingFiles(*(Path(folder) / name for name in ("state", "metrics", "selection")))
            width = feature_dim(backbone, img_size)
            distill(backbone, width, images, preprocess, knowledge, short, files, False)
            return float(json.loads(files.metrics.read_text().splitlines()[-1])["val_accuracy"])

    return learn


def _result(sized: SizedCandidate, epochs: int, learn: Learn, number: int, what: str) -> AccuracyEstimate | None:
    try:
        accuracy = learn(sized, epochs)
    except (UsageError, DataError, MissingError, TrainingDiverged) as error:
        return by_table_because(sized.candidate, reason_of(error))
    how = f"validation accuracy of a TCS run of {_epochs(epochs)} at {sized.img_size} px, {what}"
    return AccuracyEstimate(100 * accuracy, "halving", how, depth=number)


def _best_first(found: dict[SizedCandidate, AccuracyEstimate | None], number: int) -> list[SizedCandidate]:
    """Those that could be trained in this round; ties keep their order."""
    trained = [sized for sized, result in found.items() if result and result.depth == number]
    return sorted(trained, key=lambda sized: -_percent(found[sized]))


def _percent(result: AccuracyEstimate | None) -> float:
    return result.percent if result else 0.0


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count > 1)}"
