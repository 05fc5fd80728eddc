"""Helpers of the commands: the JSON document of `--json`, answers for images, and checks of names and values."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from tcs_edge.errors import UnknownName
from tcs_edge.report.text import json_text, one_line, visible

if TYPE_CHECKING:
    from tcs_edge.bundle.image_index import Similar
    from tcs_edge.runs.classifier import Answer, Unread
    from tcs_edge.specs.config import CompressConfig
    from tcs_edge.validation.validate import Validation

Name = TypeVar("Name", bound=str)
Found = TypeVar("Found", "Answer", "Similar")


def print_json(document: dict[str, Any]) -> None:
    """Print `document` as JSON on stdout; NaN and Inf raise ValueError, because most readers refuse them.

    Control characters become JSON escapes; if stdout is not UTF-8, all characters but ASCII.
    """
    unicode = (sys.stdout.encoding or "").replace("-", "").lower() == "utf8"
    typer.echo(json_text(json.dumps(document, indent=2, ensure_ascii=not unicode, allow_nan=False)))


def echo(text: str, err: bool = False) -> None:
    """Print lines on stdout or stderr, with control characters of names escaped."""
    typer.echo(visible(text), err=err)


def print_answers(
    found: Iterable[Found | Unread], key: str, line: Callable[[Found], str], as_json: bool
) -> tuple[int, int]:
    """Print the answer for each image as it comes, or all in one JSON document; return the numbers read and not read.

    An image that was not read is named on stderr.

    Args:
        key: name of the list of answers in the JSON document.
        line: returns the text of an answer.
    """
    from tcs_edge.runs.classifier import Unread

    answers, unread = [], []
    for one in found:
        if isinstance(one, Unread):
            unread.append(one)
            typer.echo(one_line(f"error: {one.reason}"), err=True)
            continue
        answers.append(one)
        if not as_json:
            typer.echo(one_line(line(one)))
    if as_json:
        print_json(
            {
                "schema_version": 1,
                key: [one.to_json() for one in answers],
                "failed": [one.to_json() for one in unread],
            }
        )
    return len(answers), len(unread)


def print_validation_as(validation: Validation, as_json: bool) -> None:
    """Print a validation as one JSON document, or as a table with its verdict."""
    if as_json:
        print_json(validation.to_json())
    else:
        from tcs_edge.report.summary import print_validation

        print_validation(validation)


def known(given: Iterable[str], flag: str, allowed: Iterable[Name]) -> tuple[Name, ...]:
    """Return the values of an option, each once.

    Raises:
        UnknownName: a value is not allowed; near matches are shown.
    """
    names = {str(name): name for name in allowed}
    for name in given:
        if name not in names:
            raise UnknownName(flag, name, names)
    return tuple(names[name] for name in dict.fromkeys(given))


def require_names(options: CompressConfig) -> None:
    """Fail if the target, the student or the teacher has an unknown name; torch is not imported.

    Raises:
        UnknownName: near matches are shown. SpecError: the target's file cannot be used.
    """
    from tcs_edge.models.names import require_student_name
    from tcs_edge.specs.target import load_target
    from tcs_edge.teachers.registry import require_teacher_name

    load_target(options.target)
    if options.student != "auto":
        require_student_name(options.student)
    if options.teacher is not None and options.teacher_file is None:
        require_teacher_name(options.teacher)
