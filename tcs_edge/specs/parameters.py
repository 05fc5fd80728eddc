"""Parameters made of a spec's fields, for the command line, the Python API, `tcs-edge init` and the docs."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tcs_edge.specs.options import Choices, CommaSeparated, Flag
from tcs_edge.specs.strict import Spec

# Tables of a config file whose options are flags too.
FLAG_TABLES = ("train",)


@dataclass(frozen=True)
class Parameter:
    """One option.

    Attributes:
        name: name of the field.
        flag: name on the command line, with two dashes.
        kind: bool, int, float, str or pathlib.Path; the type of an item if `repeatable`.
        choices: the values that a text can have; empty for free text.
        text: the field's docstring on one line, with its default.
        panel: its heading in the help.
    """

    name: str
    flag: str
    kind: type
    repeatable: bool
    choices: tuple[str, ...]
    text: str
    panel: str


def parameters(spec: type[BaseModel], names: Iterable[str] | None = None) -> Iterator[Parameter]:
    """Yield the plain options of `spec` in order, with the options of `FLAG_TABLES` in place of the tables.

    Args:
        names: yield these options only.
    """
    wanted = None if names is None else set(names)
    for name, field in spec.model_fields.items():
        table = table_of(field)
        if table is not None and name in FLAG_TABLES:
            inner = [_parameter(key, one, panel_of(table, key)) for key, one in table.model_fields.items()]
        else:
            inner = [] if table is not None else [_parameter(name, field, panel_of(spec, name))]
        yield from (one for one in inner if wanted is None or one.name in wanted)


def text_of(field: FieldInfo) -> str:
    """Return a field's docstring on one line, with its registered choices and a default that it does not name."""
    text = " ".join((field.description or "").split())
    for one in field.metadata:
        if isinstance(one, Choices):
            text += f" One of: {', '.join(one.names)}."
    if field.is_required():
        return f"{text} Required."
    default = field.get_default()
    shown = default is not None and not isinstance(default, bool | BaseModel) and default != "auto"
    return f"{text} Default: {default}." if shown and "Default:" not in text else text


def table_of(field: FieldInfo) -> type[Spec] | None:
    """Return the spec of a field that is a TOML table; None for a plain value."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Spec) else None


def panel_of(spec: type[BaseModel], name: str) -> str:
    """Return the panel of the class that declares the field."""
    owner = next(one for one in reversed(spec.__mro__) if name in getattr(one, "model_fields", {}))
    panel: str = getattr(owner, "panel", "Options")
    return panel


def python_signature(function: Any, spec: type[BaseModel], without: Iterable[str] = ()) -> inspect.Signature:
    """Return the signature of `function` with the options of `spec`, None by default, in place of `**options`."""
    own = inspect.signature(function).parameters.values()
    taken = {one.name for one in own} | set(without)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=field.annotation)
        for name, field in spec.model_fields.items()
        if name not in taken
    ]
    kept = [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD]
    first = [one for one in kept if one.kind is not inspect.Parameter.KEYWORD_ONLY]
    rest = [one for one in kept if one.kind is inspect.Parameter.KEYWORD_ONLY]
    return inspect.Signature([*first, *options, *rest], return_annotation=inspect.signature(function).return_annotation)


def argument_docs(spec: type[BaseModel], without: Iterable[str] = ()) -> str:
    """Return one line for each option of `spec`, for the `Args:` of a docstring."""
    left_out = set(without)
    fields = spec.model_fields.items()
    return "\n".join(f"        {name}: {text_of(field)}" for name, field in fields if name not in left_out)


def _parameter(name: str, field: FieldInfo, panel: str) -> Parameter:
    as_text = any(isinstance(one, CommaSeparated) for one in field.metadata)
    kind, repeatable = (str, False) if as_text else _kind(field.annotation)
    flag = next((one.name for one in field.metadata if isinstance(one, Flag)), f"--{name.replace('_', '-')}")
    choices = next((one.names for one in field.metadata if isinstance(one, Choices)), _choices(field.annotation))
    return Parameter(name, flag, kind, repeatable, choices, text_of(field), panel)


def _choices(annotation: Any) -> tuple[str, ...]:
    """Return the values of the literals in an annotation."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(dict.fromkeys(value for one in get_args(annotation) for value in _choices(one)))


def _kind(annotation: Any) -> tuple[type, bool]:
    """Return the plain type behind an annotation, and whether it is a tuple of them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (Union, types.UnionType):
        return _kind(next(one for one in arguments if one is not type(None)))
    if origin is Literal:
        return type(arguments[0]), False
    if origin is tuple:
        return _kind(arguments[0])[0], True
    plain = getattr(annotation, "flag_type", annotation)
    return (plain if plain in (bool, int, float, str, Path) else str), False
