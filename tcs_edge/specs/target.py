"""Target: the device of a student, described by people in a TOML file.

Every group of facts names its source. A target may extend another one and list only the differences.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tcs_edge.errors import SpecError, UnknownName, UsageError
from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.locate import shipped_files
from tcs_edge.specs.strict import Spec, short, validated
from tcs_edge.utils.reading import is_file, read_toml

Isa = Literal["armv8.0-a", "armv8.2-a", "armv8.4-a", "x86-64-v2", "x86-64-v3", "x86-64-v4"]
RuntimeName = Literal["onnxruntime", "openvino"]
BundledRuntime = Literal[RuntimeName, "ncnn", "litert"]
OpenVinoArithmetic = Literal["f32", "f16", "bf16"]
NcnnArithmetic = Literal["f16", "f16-weights"]

# Upper bounds: two vector units of 128 bits on Arm and x86-64-v2, two of 256 and 512 bits on v3 and v4.
FP32_MACS_PER_CYCLE: dict[Isa, int] = {
    "armv8.0-a": 8, "armv8.2-a": 8, "armv8.4-a": 8, "x86-64-v2": 8, "x86-64-v3": 16, "x86-64-v4": 32,
}  # fmt: skip

MAX_EXTENDED = 16
NO_TARGET = "Check the path, or pass a name that `tcs-edge targets` lists."
SOURCED = ("cpu", "memory", "storage", "runtimes", "precision", "thermal", "limits")


class Cpu(Spec):
    """Processor and its instructions for inference.

    `frequency_ghz` is the clock under sustained load, `boost_ghz` the highest clock (None: the same).
    `fp32_macs_per_cycle` is the upper bound for the vector units of one core (None: the bound of the instruction
    set). `amx` are Intel's matrix instructions.
    """

    model: str
    isa: Isa
    cores: int = Field(ge=1, le=1024)
    frequency_ghz: float = Field(gt=0, le=10)
    boost_ghz: float | None = Field(default=None, gt=0, le=10)
    fp32_macs_per_cycle: int | None = Field(default=None, ge=1, le=1024)
    int8_dot_product: bool
    fp16_arithmetic: bool
    amx: bool = False

    @property
    def openvino_in_float16(self) -> bool:
        """True if OpenVINO computes float32 files in float16 by default."""
        return self.isa.startswith("arm") and self.fp16_arithmetic

    def peak_gmacs(self, threads: int) -> float:
        """Upper bound of fp32 multiply-accumulates in 10^9 per second with `threads` cores."""
        per_cycle = self.fp32_macs_per_cycle or FP32_MACS_PER_CYCLE[self.isa]
        return min(threads, self.cores) * per_cycle * (self.boost_ghz or self.frequency_ghz)


class RuntimeSpec(Spec):
    """A runtime on this target.

    `pin` is the version to install. `excluded` versions are known to fail. `max_opset` is the highest
    default-domain ONNX opset for the pinned version (None: the runtime does not read ONNX).
    """

    pin: str = Field(pattern=r"^\d+(\.\d+)*$")
    known_good: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    max_opset: int | None = Field(default=None, ge=7, le=30)
    note: str

    @model_validator(mode="after")
    def _pin_is_usable(self) -> Self:
        if self.pin in self.excluded:
            raise ValueError(f"pin {self.pin} is one of the excluded versions")
        return self


class DefaultPrecision(Spec):
    """Default precision of the exports, with the reason."""

    default: Precision
    reason: str


class Limits(Spec):
    """Upper bounds for a student; None means no bound. Sizes in 10^6 bytes, parameters in millions."""

    max_latency_ms: float | None = Field(default=None, gt=0)
    max_size_mb: float | None = Field(default=None, gt=0)
    max_params_m: float | None = Field(default=None, gt=0)


class TargetSpec(Spec):
    """A device: facts with their sources, and defaults for it.

    `profile` is the name or path of its latency profile; empty if there are no latencies yet.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    extends: str | None = None
    cpu: Cpu
    memory_mb: int = Field(ge=16)
    storage_budget_mb: float = Field(gt=0)
    runtimes: dict[RuntimeName, RuntimeSpec] = Field(min_length=1)
    precision: DefaultPrecision
    thermal_note: str
    limits: Limits
    threads: int = Field(ge=1)
    profile: str = ""
    sources: dict[str, str]

    @property
    def max_opset(self) -> int | None:
        """Highest ONNX opset for onnxruntime on this target; None if it is not stated."""
        runtime = self.runtimes.get("onnxruntime")
        return runtime.max_opset if runtime else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unsourced = [group for group in SOURCED if not self.sources.get(group)]
        if unsourced:
            raise ValueError(f"sources must name the source of: {', '.join(unsourced)}")
        if self.threads > self.cpu.cores:
            raise ValueError(f"threads is {self.threads}, but the CPU has {self.cpu.cores} cores")
        return self


def int8_outlook(target: TargetSpec) -> str:
    """Describe the expected gain of int8 on `target`: the target's advice on precision, with its source."""
    core = "an int8 dot product" if target.cpu.int8_dot_product else "no int8 dot product"
    reason = target.precision.reason[:1].upper() + target.precision.reason[1:]
    return (
        f"a quarter of the size and of the memory traffic. The processor has {core}. {reason} "
        f"Source: {target.sources['precision']}. Measure on the device."
    )


def refuse_amx_dynamic_int8(target: TargetSpec, precisions: Collection[Precision], dynamic_batch: bool) -> None:
    """Refuse int8 with a dynamic batch for OpenVINO on a processor with AMX.

    OpenVINO up to 2026.4 ends the process there (openvino#37577).

    Raises:
        UsageError: the options are this combination.
    """
    if dynamic_batch and "int8" in precisions and target.cpu.amx and "openvino" in target.runtimes:
        raise UsageError(
            f"OpenVINO crashes on int8 with a dynamic batch on processors with AMX, such as {target.cpu.model}. "
            "Leave out --dynamic-batch or --precision int8."
        )


def refuse_other_runtime(target: TargetSpec, runtime: str | None) -> None:
    """Stop at a runtime that the target does not have; None is any of them.

    Raises:
        UsageError: `target` has no table of `runtime`.
    """
    if runtime and runtime not in target.runtimes:
        raise UsageError(
            f"{target.name} has no runtime {runtime}, only {', '.join(target.runtimes)}. Pass one of these, or a "
            f"target file with a table [runtimes.{runtime}]."
        )


def list_targets() -> tuple[str, ...]:
    """Names of the shipped targets, sorted."""
    return tuple(sorted(shipped_files("targets")))


def load_target(name_or_path: str | Path) -> TargetSpec:
    """Read a shipped target by name, or any target by the path of its TOML file.

    A relative path of a profile is first resolved beside the target's file.

    Raises:
        UnknownName: no shipped target has this name.
        SpecError: the file is missing, is not TOML, or violates the schema.
    """
    path = _resolve(name_or_path)
    target = validated(TargetSpec, _read_extended(path), path)
    beside = path.parent / target.profile
    if target.profile.endswith(".json") and is_file(beside):
        return target.replaced(profile=str(beside))
    return target


def _resolve(name_or_path: str | Path, beside: Path | None = None) -> Path:
    text = str(name_or_path)
    if text.endswith(".toml"):
        return (beside / text) if beside else Path(text)
    known = shipped_files("targets")
    if text not in known:
        raise UnknownName("target", text, known, hint="Or pass the path of a .toml file.")
    return known[text]


def _read_extended(path: Path) -> dict[str, Any]:
    """Read the raw document and fill in the keys of its ancestors.

    Raises:
        SpecError: a circle, or more than MAX_EXTENDED ancestors.
    """
    seen: list[Path] = []
    raws: list[dict[str, Any]] = []
    current: Path | None = path
    while current is not None:
        if len(seen) > MAX_EXTENDED:
            raise SpecError(f"{path}: extends has more than {MAX_EXTENDED} steps. Extend a shipped target.")
        raws.append(read_toml(current, missing=f"no such target file: {current}. {NO_TARGET}"))
        if current.resolve() in seen:
            raise SpecError(f"{current}: extends is circular. Extend another target.")
        seen.append(current.resolve())
        current = _parent(current, raws[-1])
    return functools.reduce(_merged, reversed(raws))


def _parent(path: Path, raw: Mapping[str, Any]) -> Path | None:
    parent = raw.get("extends")
    if parent is not None and not isinstance(parent, str):
        raise SpecError(f"{path}: extends must be the name of a target or a .toml path, got {short(parent)}.")
    return None if parent is None else _resolve(parent, beside=path.parent)


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `change` into `base`, table by table; keys of `change` win."""
    result = dict(base)
    for key, value in change.items():
        below = base.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _merged(below, value)
        result[key] = value
    return result


def opset_limit(target: Mapping[str, Any]) -> int | None:
    """Return the highest opset for a target's onnxruntime, from the target in a manifest."""
    limit = target.get("runtimes", {}).get("onnxruntime", {}).get("max_opset")
    return limit if isinstance(limit, int) else None


def ncnn_arithmetic(target: Mapping[str, Any]) -> NcnnArithmetic:
    """Return ncnn's default arithmetic on a target in a manifest; see `runtimes.ncnn.library.device_arithmetic`."""
    cpu = target.get("cpu", {})
    arm = str(cpu.get("isa", "")).startswith("arm")
    return "f16" if arm and cpu.get("fp16_arithmetic") else "f16-weights"


def openvino_arithmetic(target: Mapping[str, Any]) -> OpenVinoArithmetic:
    """Return OpenVINO's default arithmetic on a target in a manifest.

    The default is float16 on Arm processors with such arithmetic, and bfloat16 on x86 with matrix units
    (OpenVINO documentation, CPU device, inference precision).
    """
    cpu = target.get("cpu", {})
    if "openvino" not in target.get("runtimes", {}):
        return "f32"
    if str(cpu.get("isa", "")).startswith("arm"):
        return "f16" if cpu.get("fp16_arithmetic") else "f32"
    return "bf16" if cpu.get("amx") else "f32"
