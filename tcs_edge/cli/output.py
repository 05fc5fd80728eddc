"""What commands share: the one JSON document that `--json` puts on stdout, and options with fixed values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import typer

from tcs_edge.errors import UnknownName


def print_json(document: dict[str, Any]) -> None:
    """Print `document` as JSON on stdout; NaN and Inf are refused, other readers choke on them."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def known(given: Iterable[str], flag: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The values of a repeatable option, each once.

    Raises:
        UnknownName: a value that is not allowed.
    """
    for name in given:
        if name not in allowed:
            raise UnknownName(flag, name, allowed)
    return tuple(dict.fromkeys(given))
