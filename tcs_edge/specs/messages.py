"""pydantic's errors, said in one line a person can act on."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong: the key, what came, what is allowed, and a near match for a typo."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"]) or "the document"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}. {_near(model, problem['loc'])}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    return f"{key} is {problem['input']!r}: {_lowered(problem['msg'])}"


def _near(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    known = sorted(_fields_at(model, location[:-1]))
    close = difflib.get_close_matches(str(location[-1]), known, n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}."


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the (nested) model at `location`."""
    current: Any = model
    for part in location:
        field = current.model_fields.get(part) if hasattr(current, "model_fields") else None
        current = field.annotation if field is not None else None
    return list(current.model_fields) if hasattr(current, "model_fields") else []


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
