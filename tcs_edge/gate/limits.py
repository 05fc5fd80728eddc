"""Limits of a model, each with a failure level and a warning level.

[tool.tcs-edge.gate]                          # in pyproject.toml; [gate] in tcs-edge.toml
max_size_mb = { fail = 5.0, warn = 4.5 }
max_latency_ms = 20                           # a single number is the failure level
min_accuracy = 0.9                            # shares in 0..1
baseline = "git:origin/main:gate.json"

[tool.tcs-edge.gate.change]                   # largest change for the worse against the baseline
size_mb = "5 %"                               # of the baseline's value
accuracy = 0.01                               # or in the number's own unit
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tcs_edge.errors import SpecError
from tcs_edge.gate.measures import QUANTITIES, Quantity
from tcs_edge.specs.strict import Spec, validated

AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*")


class Level(Spec):
    """Limit on a number: beyond `fail` the gate fails, beyond `warn` it warns."""

    flag_type: ClassVar[type] = float  # a flag sets `fail`

    fail: float | None = Field(default=None, ge=0, strict=True)
    warn: float | None = Field(default=None, ge=0, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _number_alone(cls, raw: Any) -> Any:
        return {"fail": raw} if isinstance(raw, int | float) else raw

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.fail is None and self.warn is None:
            raise ValueError("a limit needs a number, or { fail = ..., warn = ... }")
        return self


class Amount(Spec):
    """Allowed change for the worse: in the number's unit, or in percent of the baseline's value."""

    value: float = Field(ge=0, strict=True)
    percent: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short(cls, raw: Any) -> Any:
        if isinstance(raw, int | float):
            return {"value": raw}
        return _parsed(raw) if isinstance(raw, str) else raw

    def of(self, base: float) -> float:
        """Return the amount in the unit of `base`."""
        return abs(base) * self.value / 100 if self.percent else self.value

    def __str__(self) -> str:
        return f"{self.value:g}{' %' if self.percent else ''}"


def _parsed(text: str) -> dict[str, Any]:
    match = AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError('an allowed change is a number, or a percentage such as "5 %"')
    return {"value": float(match[1]), "percent": match[2] == "%"}


class ChangeLevel(Spec):
    """Limit on the change against the baseline."""

    fail: Amount | None = None
    warn: Amount | None = None

    @model_validator(mode="before")
    @classmethod
    def _amount_alone(cls, raw: Any) -> Any:
        return {"fail": raw} if isinstance(raw, int | float | str) else raw

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fail is None and self.warn is None:
            raise ValueError("an allowed change needs a number, or { fail = ..., warn = ... }")
        if self.fail and self.warn and self.fail.percent == self.warn.percent and self.warn.value > self.fail.value:
            raise ValueError("warn must come before fail, with a smaller change")
        return self


class ShareChange(ChangeLevel):
    """Limit on the change of a share in 0..1; percentages are refused, because they could mean points or a ratio."""

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        if any(amount is not None and amount.percent for amount in (self.fail, self.warn)):
            raise ValueError("must be a fraction of 1, such as 0.01 for one percentage point")
        return self


class Changes(Spec):
    """`[gate.change]`: the allowed change for the worse of each number against the baseline."""

    total_mb: ChangeLevel | None = None
    size_mb: ChangeLevel | None = None
    params_m: ChangeLevel | None = None
    macs_m: ChangeLevel | None = None
    latency_ms: ChangeLevel | None = None
    peak_memory_mb: ChangeLevel | None = None
    accuracy: ShareChange | None = None
    class_recall: ShareChange | None = None
    macro_f1: ShareChange | None = None
    ece: ShareChange | None = None


class GateLimits(Spec):
    """`[gate]`: the limits of a model; sizes in 10^6 bytes, counts in millions, shares in 0..1."""

    panel: ClassVar[str] = "Limits"

    max_size_mb: Level | None = None
    """Largest model file, in 10^6 bytes; an .xml counts with its .bin."""
    max_total_mb: Level | None = None
    """All model files together, in 10^6 bytes."""
    max_params_m: Level | None = None
    """Parameters, in millions."""
    max_macs_m: Level | None = None
    """Multiply-accumulates of one image, in millions."""
    max_latency_ms: Level | None = None
    """Upper end of the latency's interval, in milliseconds."""
    max_peak_memory_mb: Level | None = None
    """Weights and live activations together, in 10^6 bytes."""
    min_accuracy: Level | None = None
    """Lower end of the 95 % interval of the accuracy in every runtime, in 0..1."""
    min_class_recall: Level | None = None
    """Recall of every class in every runtime, in 0..1."""
    min_macro_f1: Level | None = None
    """Mean F1 score of the classes in every runtime, in 0..1."""
    max_ece: Level | None = None
    """Expected calibration error in every runtime (15 bins), in 0..1."""
    max_accuracy_drop: Level | None = None
    """Accuracy lost against PyTorch, in 0..1."""
    max_rel_diff: Level | None = None
    """Largest logit difference over largest logit."""
    min_top1_agreement: Level | None = None
    """Images with PyTorch's class, in 0..1."""
    change: Changes = Changes()
    """Allowed changes against the baseline."""
    baseline: str | None = None
    """Baseline: a run folder, a manifest.json, a baseline file, or git:REF:path of one."""

    @field_validator(*(quantity.limit for quantity in QUANTITIES.values()))
    @classmethod
    def _in_range(cls, level: Level | None, info: ValidationInfo) -> Level | None:
        if level is not None:
            quantity = next(known for known in QUANTITIES.values() if known.limit == info.field_name)
            _require_share(level, quantity)
            _require_warning_first(level, quantity)
        return level

    def level(self, quantity: str) -> Level | None:
        """Return the absolute limit for a key of QUANTITIES."""
        level: Level | None = getattr(self, QUANTITIES[quantity].limit)
        return level

    def change_level(self, quantity: str) -> ChangeLevel | None:
        """Return the limit on the change for a key of QUANTITIES."""
        level: ChangeLevel | None = getattr(self.change, quantity, None)
        return level

    def absolute(self) -> GateLimits:
        """Return these limits without changes and baseline."""
        return self.replaced(change=Changes(), baseline=None)

    @property
    def any(self) -> bool:
        """True if at least one limit is set."""
        return any(self.level(name) or self.change_level(name) for name in QUANTITIES)


def _require_share(level: Level, quantity: Quantity) -> None:
    for number in (level.fail, level.warn):
        if quantity.unit == "share" and number is not None and number > 1:
            raise ValueError(f"must be a fraction of 1, such as {number / 100:g} for {number:g} %")


def _require_warning_first(level: Level, quantity: Quantity) -> None:
    if level.warn is None or level.fail is None:
        return
    if (level.warn > level.fail) if quantity.better == "lower" else (level.warn < level.fail):
        side = "at most" if quantity.better == "lower" else "at least"
        raise ValueError(f"warn must come before fail, {side} {level.fail:g}")


def overridden(limits: GateLimits, flags: Mapping[str, Any]) -> GateLimits:
    """Return `limits` with `flags` in place of the same keys; each key of `change` is replaced on its own.

    Raises:
        SpecError: an unknown key or a wrong value.
    """
    document = limits.model_dump(exclude_none=True)
    change = document.get("change", {}) | dict(flags.get("change") or {})
    return validated(GateLimits, document | dict(flags) | {"change": change}, Path("options"))


def parse_change(text: str) -> tuple[str, str]:
    """NAME=AMOUNT of `--max-change`, such as ("size_mb", "5%").

    Raises:
        SpecError: no equals sign, or nothing on one side of it.
    """
    name, equals, amount = (part.strip() for part in text.partition("="))
    if not (name and equals and amount):
        raise SpecError(f"--max-change takes NAME=AMOUNT, such as size_mb=5%, got {text!r}.")
    return name, amount
