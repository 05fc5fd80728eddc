"""Check that all weights of a run are at hand before it spends any time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tcs_edge.errors import MissingError
from tcs_edge.models.hub import WantedWeights, fetch_all
from tcs_edge.models.safetensors_file import check_safetensors
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.defaults import with_data_defaults
from tcs_edge.students.build import local_file, require_student, wanted_student
from tcs_edge.teachers.registry import teacher_spec
from tcs_edge.teachers.source import describe, require_own_file
from tcs_edge.teachers.weights import FLAG, wanted_teacher

TYPICAL_PX = 224  # the weights do not depend on the size of the images


def require_known_weights(asked: CompressConfig) -> None:
    """Check the weights of a run before its images are read; nothing if the images choose the student.

    Raises:
        UsageError, DataError, MissingError: as `require_weights`.
    """
    options = with_data_defaults(asked, TYPICAL_PX)
    if options.student != "auto" or options.student_init != "pretrained":
        require_weights(options)


def require_weights(*runs: CompressConfig, teacher: bool = True, student: bool = True) -> None:
    """Download the weights of the runs that are not on this machine; name all missing ones in one message.

    Args:
        runs: options with the defaults of their images.
        teacher, student: check the weights of this model.

    Raises:
        UsageError, DataError: a weights file has the wrong format.
        MissingError: weights are not here and cannot be downloaded.
    """
    problems: list[str] = []
    wanted: dict[WantedWeights, None] = {}
    for options in runs:
        for need in (*([_teacher_need] if teacher else []), *([_student_need] if student else [])):
            try:
                wanted |= dict.fromkeys(need(options))
            except MissingError as error:
                problems.append(str(error))
    try:
        fetch_all(list(wanted))
    except MissingError as error:
        problems.append(str(error))
    if problems:
        raise MissingError(" ".join(dict.fromkeys(problems)))


def require_teacher(options: ResolvedConfig) -> None:
    """Check that the teacher's weights are on this machine or downloadable, and fit the teacher's image size.

    Raises:
        UsageError, DataError: a file has the wrong format or leaves something open, or the teacher cannot take the
            image size.
        MissingError: the weights are not here and cannot be downloaded.
    """
    if options.has_teacher and not options.teacher_features:
        describe(options)


def _teacher_need(options: CompressConfig) -> Iterator[WantedWeights]:
    if not options.has_teacher or options.teacher is None:
        return
    if options.teacher_file:
        require_own_file(options)
        return
    spec = teacher_spec(options.teacher)
    if options.teacher_weights:
        check_safetensors(options.teacher_weights, FLAG)
    elif spec.timm_name:  # the digits' teacher is built in
        yield wanted_teacher(options.teacher, spec)


def _student_need(options: CompressConfig) -> Iterator[WantedWeights]:
    init = options.student_init
    if options.student == "auto" or init == "random":
        return
    require_student(options.student)
    if init == "pretrained":
        yield wanted_student(options.student)
    else:
        local_file(options.student, Path(init))
