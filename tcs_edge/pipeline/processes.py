"""A run in several processes: its start, which all share, and the part of the processes other than rank 0.

Rank 0 owns the run folder; it selects the student, fits the probes, exports and validates. The others do their share of
the teacher's pass, of the moments behind the coordinates, of the training and of its validation, and then leave.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tcs_edge.data.cache import share_copies
from tcs_edge.errors import UsageError
from tcs_edge.pipeline.announce import announce_images, announce_student
from tcs_edge.search.student import resolve_search, select
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.defaults import Machine
from tcs_edge.specs.options import SearchName
from tcs_edge.stages.prepare import Prepared, Shortlist, list_students, require_usable_options
from tcs_edge.stages.targets import teacher_pass
from tcs_edge.stages.train import build_backbone, teach_beside, train_beside
from tcs_edge.stages.weights import require_known_weights, require_teacher, require_weights
from tcs_edge.utils.logs import errors_only
from tcs_edge.utils.progress import hidden
from tcs_edge.utils.ranks import current, first_alone, require_same, shared_json
from tcs_edge.utils.stopwatch import Stopwatch
from tcs_edge.utils.threads import use_threads


def prepare(options: CompressConfig, watch: Stopwatch) -> Prepared:
    """Read the images, check for all weights, and select the student.

    Raises:
        UsageError: as `list_students`; or processes that differ in data or options, or cannot run this search.
        DataError, MissingError: as `list_students`.
    """
    with watch.stage("images and choice"):
        require_usable_options(options)
        require_known_weights(options)
        listed = first_alone(lambda: list_students(options, keep_photos=True))
        listed = replace(listed, machine=Machine(**shared_json(asdict(listed.machine))))
        announce_images(listed)
        search: SearchName = shared_json(None if current().rank else resolve_search(listed))
        ready = listed.prepared()
        require_same(_facts(ready))
        require_weights(ready.options, student=search == "table")
        require_teacher(ready.options)
    use_threads(current().share(ready.options.threads))
    if search != "table":
        with watch.stage("search"):
            ready = _searched(listed, search)
    announce_student(ready)
    if not current().alone:
        share_copies(ready.images)
    return ready


def compress_beside(options: CompressConfig) -> None:
    """Do the part of a run that a process other than rank 0 has, until the student is trained.

    Raises:
        UsageError, DataError, MissingError: as in the process of rank 0.
        TrainingDiverged: a loss is NaN or Inf.
    """
    with hidden(), errors_only():
        ready = prepare(options, Stopwatch())
        backbone = build_backbone(ready)
        targets = teach_beside(ready, backbone)
        if shared_json(None):  # False if the run that rank 0 resumes is trained already
            train_beside(ready, backbone, targets)


def _facts(ready: Prepared) -> dict[str, str]:
    """Facts that all processes of a run must share: the images, and the options apart from paths."""
    images = ready.images
    return {"images": images.fingerprint + images.unlabeled_fingerprint, **_without_paths(ready.options)}


def _without_paths(options: ResolvedConfig) -> dict[str, str]:
    values: dict[str, Any] = options.model_dump()
    return {f"option {name}": str(value) for name, value in values.items() if not isinstance(value, Path)}


def _searched(listed: Shortlist, search: SearchName) -> Prepared:
    """Return the run with the student that the search ranks first; rank 0 searches."""
    if current().alone:
        return select(listed, search)
    if search == "halving":
        raise UsageError("--search halving runs in one process. Run it alone first, then pass --student NAME.")
    if current().rank:
        teacher_pass(listed.images, listed.prepared().options)  # its share
        selected = shared_json(None)
        accepted = listed.choice.accepted
        winner = next(one for one in accepted if [one.candidate.name, one.img_size] == selected)
        return listed.prepared(replace(listed.choice, winner=winner), search)
    ready = select(listed, search)
    shared_json([ready.student.name, ready.preprocess.img_size])
    return ready
