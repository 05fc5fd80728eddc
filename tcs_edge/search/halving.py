"""Search by successive halving (Jamieson, Talwalkar 2016): short TCS runs, the better third goes on for longer.

Candidates run with every input size that is asked for, all on the teacher's one pass.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tcs_edge.errors import DataError, MissingError, TrainingDiverged, UsageError, reason_of
from tcs_edge.knowledge import make_knowledge, student_is_asked
from tcs_edge.methods import Knowledge
from tcs_edge.preparation import Prepared
from tcs_edge.progress import Reporter, Silent
from tcs_edge.search.alignment import by_table_because
from tcs_edge.students.build import build_student, feature_dim, student_mean_std
from tcs_edge.students.candidates import Entrant
from tcs_edge.students.expectation import Expected
from tcs_edge.teachers.features import Features
from tcs_edge.training.distil import TrainingFiles, distil

KEPT_OF = 3  # one in three goes on, for three times as many epochs
SHOWN = 5

# Validation accuracy in 0..1 after so many epochs; raises UsageError, DataError, MissingError or TrainingDiverged
# for a student that cannot be trained.
Learn = Callable[[Entrant, int], float]


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
    entrants: Sequence[Entrant], epochs: int, learn: Learn, reporter: Reporter = Silent()
) -> dict[Entrant, Expected | None]:
    """What to expect of each entrant: its validation accuracy in the last round that it was in.

    Args:
        entrants: in the order that decides ties.
        epochs: of a full run.
    """
    expected: dict[Entrant, Expected | None] = {}
    left, rounds = list(entrants), plan_rounds(len(entrants), epochs)
    for number, planned in enumerate(rounds, 1):
        if not (left := left[: planned.students]):
            break
        what = f"round {number} of {len(rounds)}"
        reporter.say(f"search halving, {what}: {len(left)} students, {_epochs(planned.epochs)} each")
        found = {
            entrant: _result(entrant, planned.epochs, learn, number, what)
            for entrant in reporter.track(left, what, total=len(left))
        }
        expected |= found
        left = _best_first(found, number)
        best = (f"{one.candidate.name} at {one.img_size} px {_percent(found[one]):.1f} %" for one in left[:SHOWN])
        reporter.say(f"  best: {', '.join(best)}")
    return expected


def short_runs(ready: Prepared, features: Features) -> Learn:
    """TCS runs on the teacher's features, whatever method the run itself has; nothing of them is kept."""
    options = ready.options.model_copy(update={"method": "tcs", "teacher_in_loop": False})
    images = ready.images

    @cache
    def of_the_teacher() -> Knowledge:
        # The winner's run says of the teacher what there is to say.
        return make_knowledge(features, images, ready.preprocess, None, options, Silent())

    def learn(entrant: Entrant, epochs: int) -> float:
        candidate, img_size = entrant
        mean, std = student_mean_std(candidate.name)
        preprocess = replace(ready.preprocess, img_size=img_size, mean=mean, std=std)
        backbone = build_student(candidate.name, img_size, ready.given_init, options.seed)
        short = options.for_student(candidate.kind).model_copy(
            update={"student": candidate.name, "img_size": img_size, "epochs": epochs}
        )
        if student_is_asked(short):
            knowledge = make_knowledge(features, images, preprocess, backbone, short, Silent())
        else:
            knowledge = of_the_teacher()
        with tempfile.TemporaryDirectory(prefix="tcs-edge-search-") as folder:
            files = TrainingFiles(*(Path(folder) / name for name in ("state", "metrics", "selection")))
            width = feature_dim(backbone, img_size)
            distil(backbone, width, images, preprocess, knowledge, short, files, False, Silent())
            return float(json.loads(files.metrics.read_text().splitlines()[-1])["val_accuracy"])

    return learn


def _result(entrant: Entrant, epochs: int, learn: Learn, number: int, what: str) -> Expected | None:
    try:
        accuracy = learn(entrant, epochs)
    except (UsageError, DataError, MissingError, TrainingDiverged) as error:
        return by_table_because(entrant.candidate, reason_of(error))
    how = f"validation accuracy of a TCS run of {_epochs(epochs)} at {entrant.img_size} px, {what}"
    return Expected(100 * accuracy, "halving", how, depth=number)


def _best_first(found: dict[Entrant, Expected | None], number: int) -> list[Entrant]:
    """Those that could be trained in this round; ties keep their order."""
    trained = [entrant for entrant, result in found.items() if result and result.depth == number]
    return sorted(trained, key=lambda entrant: -_percent(found[entrant]))


def _percent(result: Expected | None) -> float:
    return result.percent if result else 0.0


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count > 1)}"
