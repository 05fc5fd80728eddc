"""Search by successive halving (Jamieson and Talwalkar, 2016) with short TCS runs.

Each round trains the best third of the round before for three times the epochs. Candidates run with every input size
that the user gave, all on the teacher's single pass.
"""

from __future__ import annotations

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
from tcs_edge.stages.probes import pools_student_probe
from tcs_edge.stages.train import TeacherTargets, build_backbone, teach, train_student
from tcs_edge.students.accuracy_estimate import AccuracyEstimate
from tcs_edge.teachers.features import Features
from tcs_edge.training.distill import TrainingFiles
from tcs_edge.utils.logs import warnings_only
from tcs_edge.utils.progress import track
from tcs_edge.utils.reading import parse_json, read_regular

logger = logging.getLogger(__name__)

KEPT_OF = 3  # one in three stays, for three times the epochs
SHOWN = 5

# Validation accuracy in 0..1 after a number of epochs; raises UsageError, DataError, MissingError or
# TrainingDiverged for a student that cannot be trained.
Learn = Callable[[SizedCandidate, int], float]


@dataclass(frozen=True)
class Round:
    """Number of students in a round, and epochs of each."""

    students: int
    epochs: int


def plan_rounds(students: int, epochs: int) -> tuple[Round, ...]:
    """Plan rounds until one student is left; the last round has a third of the full run's `epochs`.

    A round costs about one full run at most. An early round costs more if its share is below one epoch, because it
    trains for one epoch at least.
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
    """Return the accuracy estimate of each student: its validation accuracy in its last round.

    Args:
        sized: the students; an earlier one wins a tie.
        epochs: epochs of a full run.
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
    """Return a function that trains a student briefly by TCS, independent of the run's method; it leaves no files."""
    listed = replace(listed, asked=listed.asked.replaced(method="tcs", online_teacher=False))
    found_as = {found.sized_candidate: found for found in listed.choice.accepted}
    # Students without a probe of their own share their targets.
    shared: list[TeacherTargets] = []

    def taught(ready: Prepared, backbone: nn.Module) -> TeacherTargets:
        if pools_student_probe(ready.options):
            return teach(ready, backbone, features)
        if not shared:
            shared.append(teach(ready, backbone, features))
        return shared[0]

    def learn(sized: SizedCandidate, epochs: int) -> float:
        ready = listed.prepared(replace(listed.choice, winner=found_as[sized]))
        ready = replace(ready, options=ready.options.replaced(epochs=epochs))
        backbone = build_backbone(ready)
        with tempfile.TemporaryDirectory(prefix="tcs-edge-search-") as folder:
            files = TrainingFiles(*(Path(folder) / name for name in ("state", "metrics", "selection")))
            with warnings_only():  # the epochs of short runs would bury the rounds
                train_student(ready, files, backbone, taught(ready, backbone))
            last = read_regular(files.metrics).splitlines()[-1]
            return float(parse_json(last, str(files.metrics))["val_accuracy"])

    return learn


def _result(sized: SizedCandidate, epochs: int, learn: Learn, number: int, what: str) -> AccuracyEstimate | None:
    try:
        accuracy = learn(sized, epochs)
    except (UsageError, DataError, MissingError, TrainingDiverged) as error:
        return by_table_because(sized.candidate, reason_of(error))
    how = f"validation accuracy of a TCS run of {_epochs(epochs)} at {sized.img_size} px, {what}"
    return AccuracyEstimate(100 * accuracy, "halving", how, depth=number)


def _best_first(found: dict[SizedCandidate, AccuracyEstimate | None], number: int) -> list[SizedCandidate]:
    """Students that were trained in this round, best first; ties keep their order."""
    trained = [sized for sized, result in found.items() if result and result.depth == number]
    return sorted(trained, key=lambda sized: -_percent(found[sized]))


def _percent(result: AccuracyEstimate | None) -> float:
    return result.percent if result else 0.0


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count > 1)}"
