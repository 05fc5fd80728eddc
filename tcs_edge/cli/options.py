"""Flags made from the fields of a spec, and help in panels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from typer.core import TyperCommand

from tcs_edge.cli.completion import method_names, student_names, target_names, teacher_names
from tcs_edge.specs.parameters import Parameter, parameters

# Options of `compress` that say which images, which teacher and which machine.
OF_IMAGES = (
    "data", "unlabeled", "exclude", "column", "teacher", "teacher_weights", "teacher_img_size", "teacher_onnx",
    "teacher_mean", "teacher_std", "teacher_layout", "teacher_output", "teacher_features", "cache_dir", "device",
    "threads", "workers", "seed",
)  # fmt: skip
COMPLETED = {"target": target_names, "teacher": teacher_names, "student": student_names, "method": method_names}


def with_flags_of(
    spec: type[BaseModel], names: Iterable[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the `**options` of a command by one flag for each option of `spec`, in its own panel.

    A missing flag is None, or an empty list if it is repeatable; see `given`.

    Args:
        names: use these options only.
    """
    flags = {one.name: one for one in parameters(spec, names)}

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        made = [_flag(one) for one in flags.values()]
        own = [
            one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for one in inspect.signature(command, eval_str=True).parameters.values()
            if one.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        signature = inspect.Signature([*made, *own])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = command.__annotations__ | {one.name: one.annotation for one in made}
        return command

    return decorated


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None and value != []}


def _flag(option: Parameter) -> inspect.Parameter:
    item: Any = option.kind
    kind: Any = list[item] if option.repeatable else item
    info = typer.Option(
        option.flag,
        help=option.text,
        metavar=_metavar(option),
        rich_help_panel=option.panel,
        autocompletion=COMPLETED.get(option.name),
    )
    annotation = Annotated[kind | None, info]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _metavar(option: Parameter) -> str | None:
    """Return the choices, or the type of one item; None for typer's own."""
    if option.choices:
        return f"[{'|'.join(option.choices)}]"
    return f"<{option.kind.__name__.lower()}>" if option.repeatable else None


class PanelCommand(TyperCommand):
    """A command whose help shows its options under headings, in the order they first appear."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the panels; options without a panel come last."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Other", []).append(record)
        other = panels.pop("Other", [])
        for panel, records in [*panels.items(), ("Other", other)]:
            if records:
                with formatter.section(panel):
                    formatter.write_dl(records)
