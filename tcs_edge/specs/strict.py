"""Base of all specs: frozen, no unknown keys, every error on one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from tcs_edge.errors import SpecError, cut
from tcs_edge.errors import advice as near_or_known
from tcs_edge.errors import short as short

# Option names of earlier versions: a config file that has one gets an error with the new name.
OLD_NAMES = {
    "control": "ablation",
    "file_mb": "size_mb",
    "label_weight": "soft_share",
    "labelled_share": "labeled_fraction",
    "max_drop": "max_accuracy_drop",
    "max_file_mb": "max_size_mb",
    "neighbours": "label_propagation",
    "opening": "mimic_warmup",
    "own_features": "student_probe",
    "soft_weight": "soft_share",
    "teacher_in_loop": "online_teacher",
}


class Spec(BaseModel):
    """Base of all specs: immutable, finite numbers only, an unknown key is an error.

    Attributes:
        everyday: of a table with keys for experiments, those that are not; None if there are no such keys.
    """

    everyday: ClassVar[tuple[str, ...] | None] = None

    # Built at the first validation, which `--help` never reaches.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, defer_build=True
    )

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Validate a document; true and false are not numbers, although Python takes them for 1 and 0."""
        if wrong := next(_truths_for_numbers(cls, obj, ()), None):
            raise ValidationError.from_exception_data(cls.__name__, [wrong])
        return super().model_validate(obj, **options)

    def replaced(self, **changes: Any) -> Self:
        """Return this spec with `changes`, validated again; fields without an explicit value stay unset."""
        return type(self)(**self.explicit() | changes)

    def explicit(self) -> dict[str, Any]:
        """Return the fields that somebody set, by name."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def _truths_for_numbers(kind: type[BaseModel], raw: Any, above: tuple[int | str, ...]) -> Iterator[InitErrorDetails]:
    """Yield every truth value in a document in the place of a number, also in inner tables."""
    for name, (numbers, tables) in _numbers_and_tables(kind) if isinstance(raw, Mapping) else ():
        value, place = raw.get(name), (*above, name)
        inner = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else []
        if numbers and any(isinstance(part, bool) for part in (value, *inner)):
            yield {"type": PydanticCustomError("number", "must be a number"), "loc": place, "input": value}
        for table in tables:
            for part in (value, *inner):
                yield from _truths_for_numbers(table, part, place)


@cache
def _numbers_and_tables(kind: type[BaseModel]) -> tuple[tuple[str, tuple[bool, tuple[type[BaseModel], ...]]], ...]:
    """Return the fields of numbers or of tables: True for numbers without truth values, and the specs of the tables."""
    found = []
    for name, field in kind.model_fields.items():
        allowed = set(_leaves(field.annotation))
        numbers = bool(allowed & {int, float}) and not allowed & {bool, Any}
        tables = tuple(one for one in allowed if isinstance(one, type) and issubclass(one, BaseModel))
        if numbers or tables:
            found.append((name, (numbers, tables)))
    return tuple(found)


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the plain types inside an annotation; for a literal, the types of its values."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif inner := get_args(annotation):
        for part in inner:
            yield from _leaves(part)
    else:
        yield annotation


SpecType = TypeVar("SpecType", bound=Spec)


def validated(kind: type[SpecType], raw: object, origin: Path) -> SpecType:
    """Check `raw` against the schema of `kind`.

    Raises:
        SpecError: one line with the file, the key, the allowed values and the given value.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise SpecError(f"{origin}: {format_error(error, kind)}") from None


def format_error(error: ValidationError, kind: type[BaseModel], advice: str = "") -> str:
    """Return the first problem of a pydantic error as one line, the number of others, and what to do."""
    problems = error.errors(include_url=False)
    first = problems[0]
    location = _location(first)
    same = [problem for problem in problems if _location(problem) == location]
    key = cut(".".join(str(part) for part in location), 100) or "the document"
    if first["type"] == "extra_forbidden":
        text = f"unknown key {key}. {_near(kind, location)}"
    elif first["type"] == "missing":
        text = f"{key} is missing"
    elif allowed := _allowed(same):
        text = f"{key}: unknown value {short(first['input'])}. {_nearest(first['input'], allowed)}"
    elif not location and first["type"] == "value_error":  # of the whole spec; its repr would be long
        text = first["msg"].removeprefix("Value error, ")
    else:
        message = first["msg"].removeprefix("Value error, ")
        text = f"{key}: {message}, got {short(first['input'])}"
    more = len(problems) - len(same)
    full = cut(text, 500) + (f" (and {more} more)" if more else "")
    return full if not advice else f"{full}{'' if full.endswith(('.', '?')) else '.'} {advice}"


def _location(problem: Any) -> tuple[int | str, ...]:
    """Return the keys to a problem, without the branch of a union of literals that pydantic adds."""
    return tuple(part for part in problem["loc"] if not str(part).startswith("literal["))


def _allowed(problems: list[Any]) -> list[str]:
    """Return the values that the literals at one location allow; empty if another type is allowed too."""
    if any(problem["type"] != "literal_error" for problem in problems):
        return []
    return [value for problem in problems for value in re.findall(r"'([^']*)'", problem["ctx"]["expected"])]


def _nearest(given: object, allowed: list[str]) -> str:
    near, every = near_or_known(str(given), allowed), f"Known: {', '.join(allowed)}."
    return every if near.startswith("Known") else f"{near} {every}"


def _near(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Return advice on an unknown key: its new name, else the most similar allowed keys, else all of them."""
    known, name = _keys_at(kind, location[:-1]), str(location[-1])
    new = OLD_NAMES.get(name)
    if not known:
        return "Remove it."
    return f"Its new name is {new}." if new in known else near_or_known(name, known)


def _keys_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the table at `location`; empty if that is not a table of fixed keys."""
    current: Any = kind
    for part in location:
        # Another part is the index of a row, or the name of one of several equal tables.
        if (field := getattr(current, "model_fields", {}).get(part)) is not None:
            current = _table_of(field.annotation)
    return list(getattr(current, "model_fields", {}))


def _table_of(annotation: Any) -> Any:
    """Return the spec among the types that a key may have, such as X in `X | None`."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
