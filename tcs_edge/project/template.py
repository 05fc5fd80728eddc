"""Template of a `tcs-edge.toml`: every everyday option and limit with its default, made from the specs.

A line that starts with "#" and a letter or bracket is an option that is switched off; "# " starts a comment.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from tcs_edge.gate.limits import Changes, GateLimits
from tcs_edge.gate.measures import QUANTITIES
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.defaults import with_data_defaults
from tcs_edge.specs.parameters import table_of, text_of
from tcs_edge.specs.strict import Spec
from tcs_edge.specs.target import Limits, load_target

WIDTH = 110
TYPICAL_PX = 224  # image size for the defaults that depend on it
MAX_ACCURACY_DROP = 0.01
EXAMPLE_LEVELS: dict[str, Any] = {
    "max_size_mb": {"fail": 5.0, "warn": 4.5},
    "max_total_mb": 10.0,
    "max_params_m": 2.5,
    "max_macs_m": 100.0,
    "max_latency_ms": 20.0,
    "max_peak_memory_mb": 32.0,
    "min_accuracy": 0.9,
    "min_class_recall": 0.5,
    "min_macro_f1": 0.85,
    "max_ece": 0.15,
    "max_accuracy_drop": MAX_ACCURACY_DROP,
    "max_rel_diff": 1e-4,
    "min_top1_agreement": 0.99,
    "baseline": "git:origin/main:gate.json",
}
HEADER = (
    "Options of `tcs-edge compress` and limits of `tcs-edge gate`, both run in this folder. Flags override them. "
    "An unknown key is an error. Remove the # before a line to change it."
)
EXPERIMENTS = "Keys for experiments, described in docs/reference/config.md: "


@dataclass(frozen=True)
class Project:
    """Facts about the folder of the file; `remarks` are comments above `data`."""

    target: str
    data: Path | None
    remarks: tuple[str, ...] = ()


def project_toml(project: Project, spec: type[CompressConfig] = CompressConfig) -> str:
    """Make the text of a `tcs-edge.toml` for `project`.

    Args:
        spec: the options.

    Raises:
        SpecError, UnknownName: no such target.
    """
    limits = load_target(project.target).limits
    sections = (_remark(HEADER), *_options(project, limits, spec), *_gate(limits))
    return "\n\n".join(sections) + "\n"


def _options(project: Project, limits: Limits, spec: type[CompressConfig]) -> Iterator[str]:
    start = spec.model_validate({"target": project.target, "data": project.data or Path("photos")})
    shown = with_data_defaults(start, TYPICAL_PX).model_dump(mode="json") | limits.model_dump()
    written = {"target": project.target} | ({"data": project.data.as_posix()} if project.data else {})
    fields = sorted(spec.model_fields.items(), key=lambda item: item[0] != "target")  # the target comes first
    for name, field in fields:
        if table_of(field) is None:
            remarks = (text_of(field), *(project.remarks if name == "data" else ()))
            yield _entry(name, written.get(name, shown[name]), remarks, on=name in written)
    tables = [(name, table) for name, field in fields if (table := table_of(field)) is not None]
    yield from (_off_table(name, table) for name, table in tables if table.everyday != ())
    yield _remark(
        EXPERIMENTS + "; ".join(_experiments(name, table) for name, table in tables if table.everyday is not None) + "."
    )


def _off_table(name: str, table: type[Spec]) -> str:
    defaults = table().model_dump(mode="json")
    shown = table.model_fields if table.everyday is None else {key: table.model_fields[key] for key in table.everyday}
    entries = [_entry(key, defaults[key], (text_of(field),), on=False) for key, field in shown.items()]
    return "\n".join([_remark((inspect.getdoc(table) or "").split("\n")[0]), f"#[{name}]", *entries])


def _experiments(name: str, table: type[Spec]) -> str:
    return f"[{name}] " + ", ".join(key for key in table.model_fields if key not in (table.everyday or ()))


def _gate(limits: Limits) -> Iterator[str]:
    """Yield the gate's limits; the limits of the student's choice are on, so that a run of `compress` passes."""
    chosen = {"max_latency_ms": limits.max_latency_ms, "max_size_mb": limits.max_size_mb}
    on = {name: value for name, value in (chosen | {"max_params_m": limits.max_params_m}).items() if value is not None}
    on["max_accuracy_drop"] = MAX_ACCURACY_DROP
    yield _remark("Limits of `tcs-edge gate RUN`. A missing number fails its limit.") + "\n[gate]"
    for name in EXAMPLE_LEVELS:
        yield _entry(name, on.get(name, EXAMPLE_LEVELS[name]), (text_of(GateLimits.model_fields[name]),), on=name in on)
    yield "\n".join(_changes())


def _changes() -> Iterator[str]:
    yield _remark("Largest change of each number for the worse, against the baseline.")
    yield "#[gate.change]"
    for name in Changes.model_fields:
        quantity = QUANTITIES[name]
        amount: float | str = 0.01 if quantity.unit == "share" else "5 %"
        yield f"#{_assigned(name, amount)}  # {quantity.title}"


def _entry(name: str, value: Any, remarks: tuple[str, ...], on: bool) -> str:
    """Return the comments and the line of an option; an open option has no value."""
    line = f"{name} =" if value is None else _assigned(name, value)
    return "\n".join([*map(_remark, remarks), line if on else f"#{line}"])


def _assigned(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(_assigned(key, part) for key, part in value.items())
        return f"{name} = {{ {inner} }}"
    return tomli_w.dumps({name: value}).strip()


def _remark(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent="# ", subsequent_indent="# ")
