"""Ranks the students that fit by a search that needs the teacher, and settles which search that is."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from tcs_edge.errors import MissingError, UsageError
from tcs_edge.models.candidates import Candidate, SizedCandidate
from tcs_edge.search.alignment import by_alignment, by_table_because, draw_sample, student_features
from tcs_edge.search.halving import by_halving, short_runs
from tcs_edge.specs.config import SearchName
from tcs_edge.stages.prepare import Prepared, decided, tell_choice, with_choice
from tcs_edge.stages.targets import teacher_pass
from tcs_edge.students.accuracy_estimate import AccuracyEstimate
from tcs_edge.students.build import weights_at_hand
from tcs_edge.students.choice import ranked
from tcs_edge.teachers.features import Features, features_cached

logger = logging.getLogger(__name__)


def settle_search(ready: Prepared) -> Prepared:
    """Settle `--search auto`, and refuse a search that has nothing to look at before the teacher is asked.

    Raises:
        UsageError: alignment of students without pretrained weights.
        MissingError: none of the students' weights are on this machine.
    """
    if not ready.undecided:
        return _with_search(ready, "table") if ready.options.search == "auto" else ready
    if ready.options.search == "auto":
        if not _all_is_here(ready):
            tell_choice(settled := decided(_with_search(ready, "table")))
            return settled
        ready = _with_search(ready, "alignment")
        logger.info("the teacher's features are cached: students are compared on the images (see --search)")
    _require_students(ready)
    return ready


def search_student(ready: Prepared) -> Prepared:
    """The same run with the student and input size that its search ranks first; the teacher's pass is made and cached.

    Raises:
        DataError, MissingError: as `teacher_pass`.
    """
    features = teacher_pass(ready.images, ready.options)
    look = _align if ready.options.search == "alignment" else _halve
    expected = look(ready, features)
    found = decided(with_choice(ready, ranked(ready.choice, expected.__getitem__)))
    tell_choice(found)
    return found


def _align(ready: Prepared, features: Features) -> dict[SizedCandidate, AccuracyEstimate | None]:
    sample = draw_sample(ready.images, features, ready.options.tcs.dims, ready.options.seed)
    found = by_alignment(_fitting(ready), sample, student_features(ready, sample))
    return {sized: found[sized.candidate.name] for sized in _entrants(ready)}


def _halve(ready: Prepared, features: Features) -> dict[SizedCandidate, AccuracyEstimate | None]:
    here = [sized for sized in _entrants(ready) if _at_hand(ready, sized.candidate)]
    left_out = {
        sized: by_table_because(sized.candidate, "its weights are not on this machine")
        for sized in _entrants(ready)
        if sized not in here
    }
    return left_out | by_halving(here, ready.options.epochs or 1, short_runs(ready, features))


def _entrants(ready: Prepared) -> list[SizedCandidate]:
    return [found.sized_candidate for found in ready.choice.accepted]


def _fitting(ready: Prepared) -> list[Candidate]:
    """The candidates that fit, each once."""
    return list(dict.fromkeys(sized.candidate for sized in _entrants(ready)))


def _at_hand(ready: Prepared, candidate: Candidate) -> bool:
    """Whether the student could start now: from random weights, or from a file that is here."""
    return ready.given_init == "random" or weights_at_hand(candidate.name, ready.given_init) is not None


def _with_search(ready: Prepared, search: SearchName) -> Prepared:
    return replace(ready, options=ready.options.model_copy(update={"search": search}))


def _all_is_here(ready: Prepared) -> bool:
    """Pretrained weights of every student on the table's front, and all features of the teacher."""
    options = ready.options
    init = ready.given_init
    if options.method == "ce" or init == "random" or (isinstance(init, Path) and not init.is_dir()):
        return False
    front = [found.candidate for found in ready.choice.front]
    if len(front) < 2 or not all(_at_hand(ready, candidate) for candidate in front):
        return False
    return features_cached(
        ready.images, options.teacher or "", options.teacher_weights, options.teacher_img_size, options.cache_dir
    )


def _require_students(ready: Prepared) -> None:
    search, init = ready.options.search, ready.given_init
    if search == "alignment" and init == "random":
        raise UsageError(
            "search alignment compares pretrained students, and --student-init is random. "
            "Pass --search halving, or --student-init FOLDER with weights."
        )
    if not any(_at_hand(ready, candidate) for candidate in _fitting(ready)):
        raise MissingError(
            f"search {search}: of {len(_fitting(ready))} students that fit, none has its weights here. Pass "
            "--student-init FOLDER with NAME.safetensors files, or --search table."
        )
