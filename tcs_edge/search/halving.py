"""Search by successive halving (Jamieson, Talwalkar 2016): short TCS runs, the better third goes on for longer.

Candidates run with every input size that is asked for, all on the teacher's one pass.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from tcs_edge.errors import DataError, MissingError, TrainingDiverged, UsageError, reason_of
from tcs_edge.models.candidates import SizedCandidate
from tcs_edge.search.alignment import by_table_because
from tcs_edge.stages.prepare import Prepared, Shortlist
from tcs_edge.stages.targets import uses_student_probe
from tcs_edge.stages.train import TeacherTargets, build_backbone, teach, train_student
from tcs_edge.students.accuracy_estimate import AccuracyEstimate
from tcs_edge.teachers.features import Features
from tcs_edge.training.distill import TrainingFiles
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


def short_runs(listed: Shortlist, features: Features) -> Learn:
    """Return short TCS runs on the teacher's features, whatever method the run itself has; they leave no files."""
    listed = replace(listed, asked=listed.asked.replaced(method="tcs", online_teacher=False))
    found_as = {found.sized_candidate: found for found in listed.choice.accepted}
    shared: dict[bool, TeacherTargets] = {}  # by soft labels or none: the same for every student that adds no probe

    def taught(ready: Prepared, backbone: nn.Module) -> TeacherTargets:
        if uses_student_probe(ready.options):
            return teach(ready, backbone, features)
        soft = ready.options.tcs.soft_weight != 0
        if soft not in shared:
            shared[soft] = teach(ready, backbone, features)
        return shared[soft]

    def learn(sized: SizedCandidate, epochs: int) -> float:
        ready = listed.prepared(replace(listed.choice, winner=found_as[sized]))
        ready = replace(ready, options=ready.options.replaced(epochs=epochs))
        backbone = build_backbone(ready)
        with tempfile.TemporaryDirectory(prefix="tcs-edge-search-") as folder:
            files = TrainingFiles(*(Path(folder) / name for name in ("state", "metrics", "selection")))
            train_student(ready, files, backbone, taught(ready, backbone))
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
