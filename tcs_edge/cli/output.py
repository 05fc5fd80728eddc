"""Shared by the commands: the JSON document of `--json`, and options with fixed values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from tcs_edge.errors import UnknownName

if TYPE_CHECKING:
    from tcs_edge.pipeline.plan import Plan

Name = TypeVar("Name", bound=str)


def print_json(document: dict[str, Any]) -> None:
    """Print `document` as JSON on stdout; NaN and Inf raise ValueError, because most readers refuse them."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


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


def print_plan(plan: Plan, as_json: bool) -> None:
    """Print the plan of a run: stages with their times, the total, and downloads."""
    from tcs_edge.report.console import print_table

    if as_json:
        print_json(plan.to_json())
        return
    print_table(("stage", "expected time", "what"), plan.rows())
    for download in plan.downloads:
        typer.echo(f"would download: {download}")
