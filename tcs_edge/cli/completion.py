"""Shell completion of --target, --teacher, --student and --method, from tables that need no torch."""

from __future__ import annotations

from collections.abc import Iterable


def target_names(incomplete: str) -> list[str]:
    """Shipped targets that start with `incomplete`; the path of a file is not completed."""
    from tcs_edge.specs.target import list_targets

    return _starting(incomplete, list_targets())


def teacher_names(incomplete: str) -> list[str]:
    """Teachers and their short names."""
    from tcs_edge.teachers.registry import ALIASES, TEACHERS, TIMM_PREFIX

    return _starting(incomplete, [*ALIASES, *TEACHERS, TIMM_PREFIX])


def student_names(incomplete: str) -> list[str]:
    """Candidates, and `auto`."""
    from tcs_edge.models.candidates import CANDIDATES

    return _starting(incomplete, ["auto", *CANDIDATES])


def method_names(incomplete: str) -> list[str]:
    """Training methods."""
    from tcs_edge.specs.methods import METHODS

    return _starting(incomplete, METHODS)


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
