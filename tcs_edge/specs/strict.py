"""The ground rules of everything that people write: frozen, no unknown keys, one-line complaints."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from tcs_edge.errors import SpecError


class Spec(BaseModel):
    """Base of all specs: immutable, finite numbers only, an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def replaced(self, **changes: Any) -> Self:
        """Return this spec with `changes`, validated anew; fields that nobody set stay unset."""
        explicit = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**explicit | changes)


SpecType = TypeVar("SpecType", bound=Spec)


def validated(kind: type[SpecType], raw: object, origin: Path) -> SpecType:
    """Check `raw` against the schema of `kind`.

    Raises:
        SpecError: one line that names the file, the key, what is allowed and what came.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise SpecError(f"{origin}: {format_error(error, kind)}") from None


def format_error(error: ValidationError, kind: type[BaseModel], advice: str = "") -> str:
    """The first problem of a pydantic error as one line, plus how many more there are, and what to do."""
    problems = error.errors(include_url=False)
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"]) or "the document"
    if first["type"] == "extra_forbidden":
        text = f"unknown key {key}. {_near(kind, first['loc'])}"
    elif first["type"] == "missing":
        text = f"{key} is missing"
    elif not first["loc"]:
        text = first["msg"].removeprefix("Value error, ")
    else:
        message = first["msg"].removeprefix("Value error, ")
        text = f"{key}: {message}, got {_short(first['input'])}"
    more = len(problems) - 1
    told = text + (f" (and {more} more)" if more else "")
    return told if not advice else f"{told}{'' if told.endswith(('.', '?')) else '.'} {advice}"


def _near(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The allowed keys most like the last one of `location`, or all of them."""
    known = sorted(_keys_at(kind, location[:-1]))
    close = difflib.get_close_matches(str(location[-1]), known, n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"Allowed: {', '.join(known)}."


def _keys_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys of the table at `location`; none where that is not a table of fixed keys."""
    current: Any = kind
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        current = _table_of(field.annotation) if field is not None else None
    return list(getattr(current, "model_fields", {}))


def _table_of(annotation: Any) -> Any:
    """The spec among the types that a key may have, such as X of `X | None`."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if hasattr(kind, "model_fields")), None)


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
