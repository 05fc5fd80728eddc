"""Selection of one of the students that fit: by published accuracy, or by a search with the teacher."""

from __future__ import annotations

import logging
from pathlib import Path

from tcs_edge.errors import MissingError, UsageError
from tcs_edge.models.candidates import Candidate, SizedCandidate
from tcs_edge.search.alignment import by_alignment, by_table_because, draw_sample, student_features
from tcs_edge.search.halving import by_halving, short_runs
from tcs_edge.specs.options import SearchName
from tcs_edge.stages.prepare import Prepared, Shortlist
from tcs_edge.stages.targets import teacher_pass
from tcs_edge.students.accuracy_estimate import AccuracyEstimate
from tcs_edge.students.build import weights_at_hand
from tcs_edge.students.choice import ranked
from tcs_edge.teachers.features import Features
from tcs_edge.teachers.source import images_at_hand

logger = logging.getLogger(__name__)


def resolve_search(listed: Shortlist) -> SearchName:
    """Return the search that `select` runs; "table" if one student fits or the user named one.

    Raises:
        UsageError: alignment of students without pretrained weights.
        MissingError: none of the students' weights are on this machine.
    """
    search = listed.asked.search
    if not listed.open or search == "table":
        return "table"
    if search == "auto":
        if not _all_is_here(listed):
            return "table"
        search = "alignment"
        logger.info("search: alignment (teacher features and student weights found on this machine)")
    _require_students(listed, search)
    return search


def select(listed: Shortlist, search: SearchName) -> Prepared:
    """Return the run with the student and input size that `search` ranks first; cache the teacher's pass.

    Args:
        search: the result of `resolve_search`.

    Raises:
        DataError, MissingError: as `teacher_pass`.
    """
    if search == "table":
        return listed.prepared()
    features = teacher_pass(listed.images, listed.prepared().options)
    rank = _align if search == "alignment" else _halve
    expected = rank(listed, features)
    return listed.prepared(ranked(listed.choice, expected.__getitem__), search)


def _align(listed: Shortlist, features: Features) -> dict[SizedCandidate, AccuracyEstimate | None]:
    sample = draw_sample(listed.images, features, listed.asked.tcs.dims, listed.asked.seed)
    found = by_alignment(_fitting(listed), sample, student_features(listed, sample))
    return {sized: found[sized.candidate.name] for sized in _sized(listed)}


def _halve(listed: Shortlist, features: Features) -> dict[SizedCandidate, AccuracyEstimate | None]:
    here = [sized for sized in _sized(listed) if _at_hand(listed, sized.candidate)]
    left_out = {
        sized: by_table_because(sized.candidate, "its weights are not on this machine")
        for sized in _sized(listed)
        if sized not in here
    }
    epochs = listed.prepared().options.epochs
    return left_out | by_halving(here, epochs, short_runs(listed, features))


def _sized(listed: Shortlist) -> list[SizedCandidate]:
    return [found.sized_candidate for found in listed.choice.accepted]


def _fitting(listed: Shortlist) -> list[Candidate]:
    """Return each candidate that fits once."""
    return list(dict.fromkeys(sized.candidate for sized in _sized(listed)))


def _at_hand(listed: Shortlist, candidate: Candidate) -> bool:
    """Return True if the student's first weights are here: random weights, or a file on this machine."""
    return listed.init == "random" or weights_at_hand(candidate.name, listed.init) is not None


def _all_is_here(listed: Shortlist) -> bool:
    """Return True if this machine has the weights of all students on the Pareto front and the teacher's features."""
    init, options = listed.init, listed.prepared().options
    if not options.has_teacher or init == "random" or (isinstance(init, Path) and not init.is_dir()):
        return False
    front = [found.candidate for found in listed.choice.front]
    if len(front) < 2 or not all(_at_hand(listed, candidate) for candidate in front):
        return False
    return images_at_hand(listed.images, options) == len(listed.images.train) + len(listed.images.val)


def _require_students(listed: Shortlist, search: SearchName) -> None:
    if search == "alignment" and listed.init == "random":
        raise UsageError(
            "search alignment needs pretrained students, but --student-init is random. "
            "Pass --search halving, or --student-init FOLDER with weights."
        )
    if not any(_at_hand(listed, candidate) for candidate in _fitting(listed)):
        raise MissingError(
            f"search {search}: no weights on this machine for any of the {len(_fitting(listed))} students that fit. "
            "Pass --student-init FOLDER with NAME.safetensors files, or --search table."
        )
