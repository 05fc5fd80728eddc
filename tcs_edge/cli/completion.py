"""Shell completion of --target, --teacher, --student and --method, from tables that need no torch."""

from __future__ import annotations

from collections.abc import Iterable


def target_names(incomplete: str) -> list[str]:
    """Return the shipped targets that start with `incomplete`; paths of files are not completed."""
    from tcs_edge.specs.target import list_targets

    return _starting(incomplete, list_targets())


def teacher_names(incomplete: str) -> list[str]:
    """Return the teachers and their short names that start with `incomplete`."""
    from tcs_edge.teachers.registry import ALIASES, TEACHERS, TIMM_PREFIX

    return _starting(incomplete, [*ALIASES, *TEACHERS, TIMM_PREFIX])


def student_names(incomplete: str) -> list[str]:
    """Return the candidates that start with `incomplete`, and `auto`."""
    from tcs_edge.models.candidates import CANDIDATES

    return _starting(incomplete, ["auto", *CANDIDATES])


def method_names(incomplete: str) -> list[str]:
    """Return the training methods that start with `incomplete`."""
    from tcs_edge.specs.methods import METHODS

    return _starting(incomplete, METHODS)


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
