"""The one JSON document that `--json` puts on stdout."""

from __future__ import annotations

import json
from typing import Any

import typer


def print_json(document: dict[str, Any]) -> None:
    """Print `document` as JSON on stdout; NaN and Inf are refused, other readers choke on them."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
