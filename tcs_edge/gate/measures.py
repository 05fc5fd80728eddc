"""Numbers that the gate can compare with limits, and their values in a manifest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, TypeGuard

from tcs_edge.runs.manifest import exported_files
from tcs_edge.runs.metrics import MetricsRecord
from tcs_edge.runs.model_files import models_of
from tcs_edge.runs.schema import AccuracyRecord, LatencyRecord, Manifest
from tcs_edge.specs.machine import not_of_target

REFERENCE = "pytorch"  # the trained model: measured with the exports, but not deployed

Unit = Literal["MB", "M", "ms", "share", "of max |logit|"]


@dataclass(frozen=True)
class Quantity:
    """Kind of number.

    Attributes:
        unit: "share" is a fraction in 0..1.
        better: the direction of improvement.
        limit: the key of the gate's table that bounds the number.
        counts: name of the number that an absolute limit applies to.
    """

    title: str
    unit: Unit
    better: Literal["lower", "higher"]
    limit: str
    counts: str = "the value"


QUANTITIES = {
    "total_mb": Quantity("size, all models", "MB", "lower", "max_total_mb"),
    "size_mb": Quantity("size", "MB", "lower", "max_size_mb"),
    "params_m": Quantity("parameters", "M", "lower", "max_params_m"),
    "macs_m": Quantity("multiply-accumulates", "M", "lower", "max_macs_m"),
    "latency_ms": Quantity("latency", "ms", "lower", "max_latency_ms", "the upper end of the interval"),
    "peak_memory_mb": Quantity("peak memory", "MB", "lower", "max_peak_memory_mb"),
    "accuracy": Quantity("accuracy", "share", "higher", "min_accuracy", "the lower end of the 95 % interval"),
    "class_recall": Quantity("lowest recall of a class", "share", "higher", "min_class_recall"),
    "macro_f1": Quantity("macro F1", "share", "higher", "min_macro_f1"),
    "ece": Quantity("calibration error", "share", "lower", "max_ece"),
    "drop": Quantity("drop from PyTorch", "share", "lower", "max_accuracy_drop"),
    "rel_diff": Quantity("largest logit difference", "of max |logit|", "lower", "max_rel_diff"),
    "top1_agreement": Quantity("same class as PyTorch", "share", "higher", "min_top1_agreement"),
}


PER_RUNTIME = ("accuracy", "class_recall", "macro_f1", "ece", "drop", "rel_diff", "top1_agreement")  # of test images


@dataclass(frozen=True)
class Measure:
    """One number about a model; a `value` of None is unknown, with the reason in `detail`.

    Attributes:
        quantity: a key of QUANTITIES.
        of: runtime or file of the number; empty for the whole model.
        bound: end of the interval that an absolute limit applies to; None uses `value`.
        detail: source, interval or counts, in a few words.
        parts: the named numbers that `value` is the worst of, worst first.
    """

    quantity: str
    value: float | None
    of: str = ""
    bound: float | None = None
    detail: str = ""
    parts: tuple[tuple[str, float], ...] = ()

    @property
    def key(self) -> str:
        """Key of the number: unique within a model, equal for the same number of another model."""
        return f"{self.quantity}/{self.of}" if self.of else self.quantity

    @property
    def judged(self) -> float | None:
        """Number that an absolute limit applies to."""
        return self.value if self.bound is None else self.bound


# All shapes, axes and index tables of a model together have fewer elements. More of them count as parameters.
INDEX_ELEMENTS = 1024
MAX_ELEMENTS = 2**40


@dataclass(frozen=True)
class ModelFile:
    """Numbers of a bare model file.

    Attributes:
        precision: the most common type of its weights.
        problem: first contradiction between the tensors and the bytes; empty without one.
        graph_problem: first reason why no runtime can run the graph; empty without one.
    """

    measures: tuple[Measure, ...]
    precision: str
    problem: str
    graph_problem: str = ""


def with_indices(elements: Counter[str], indices: Collection[str]) -> Counter[str]:
    """Return the elements per type that are parameters: without `indices`, unless these are INDEX_ELEMENTS or more."""
    few = sum(elements[kind] for kind in indices) < INDEX_ELEMENTS
    return Counter({kind: count for kind, count in elements.items() if count and not (few and kind in indices)})


def parameters(count: int, problem: str) -> Measure:
    """Return the number of parameters; unknown if there is a `problem`."""
    if problem:
        return Measure("params_m", None, detail=problem)
    return Measure("params_m", count / 1e6, detail="counted in the file")


def size_problem(shape: Sequence[int]) -> str:
    """Return the reason why a shape cannot be true; empty without one."""
    if any(axis < 0 for axis in shape):
        return f"its shape {_shown(shape)} has a negative axis"
    if len(shape) > 64 or math.prod(shape) > MAX_ELEMENTS:
        return f"its shape {_shown(shape)} is too large"
    return ""


def _shown(shape: Sequence[int]) -> str:
    return "x".join(str(axis) for axis in shape[:4]) + ("x..." if len(shape) > 4 else "")


def is_number(value: float | None) -> TypeGuard[float]:
    """Return True for a finite number, False for None, NaN and infinity."""
    return value is not None and math.isfinite(value)


def manifest_measures(manifest: Manifest) -> tuple[Measure, ...]:
    """Return every number of a run's manifest; a missing number has the value None."""
    student = manifest.student
    return (
        *_sizes(manifest),
        Measure("params_m", student.params_m),
        Measure("macs_m", student.macs_m, detail="" if student.macs_m is not None else "the manifest has no value"),
        _latency(student.latency, target_isa(manifest)),
        _peak_memory(student.peak_memory_mb),
        *_per_runtime(manifest),
    )


def _sizes(manifest: Manifest) -> Iterator[Measure]:
    models = models_of({record.path: record.bytes for record in exported_files(manifest)})
    if not models:
        yield from model_sizes({}, "the manifest lists no model")
        return
    yield from model_sizes({"/".join(PurePosixPath(path).parts[1:]): size for path, size in models.items()})


def model_sizes(models: Mapping[str, int], problem: str = "") -> Iterator[Measure]:
    """Yield the size of all models and of each model; unknown if there is a `problem`.

    Args:
        models: bytes by name; an empty name stands for a model that was given as a bare file.
    """
    if problem:
        yield Measure("total_mb", None, detail=problem)
        yield Measure("size_mb", None, detail=problem)
        return
    yield Measure("total_mb", sum(models.values()) / 1e6, detail=f"{len(models)} model{'s' * (len(models) > 1)}")
    for name, size in models.items():
        yield Measure("size_mb", size / 1e6, name)


def target_isa(manifest: Manifest) -> str | None:
    """Return the instruction set of the target's processor; None if the manifest has none."""
    cpu = manifest.target.get("cpu")
    isa = cpu.get("isa") if isinstance(cpu, dict) else None
    return isa if isinstance(isa, str) else None


def _latency(record: LatencyRecord | None, isa: str | None) -> Measure:
    if record is None:
        return Measure("latency_ms", None, detail="the latency profile has no value for this student")
    if record.source == "measured" and (reason := not_of_target(record.machine, isa)):
        return Measure("latency_ms", None, detail=f"{reason}. Measure on the device, and repeat the run")
    interval = f"{record.low_ms:.3g} to {record.high_ms:.3g} ms, {record.origin}"
    return Measure("latency_ms", record.p50_ms, bound=record.high_ms, detail=interval)


def _peak_memory(value: float | None) -> Measure:
    known = "weights and live activations, without the runtime itself"
    return Measure("peak_memory_mb", value, detail=known if value is not None else "the manifest has no value")


def _per_runtime(manifest: Manifest) -> Iterator[Measure]:
    """Yield accuracy, drop, metrics and parity of every judged export, without the trained model."""
    reference = manifest.accuracy.get(REFERENCE)
    for name in sorted((set(manifest.accuracy) | set(manifest.parity)) - {REFERENCE, *manifest.only_here}):
        yield from _accuracies(name, manifest.accuracy.get(name), reference)
        yield from _metrics(name, manifest.metrics.get(name), manifest.dataset.classes)
        parity = manifest.parity.get(name)
        finite = parity is not None and parity.finite
        unknown = "" if finite else "the export was not compared, or its logits are not finite"
        yield Measure("rel_diff", parity.max_rel_diff if parity and finite else None, name, detail=unknown)
        yield Measure("top1_agreement", parity.top1_agreement if parity and finite else None, name, detail=unknown)


def _accuracies(name: str, own: AccuracyRecord | None, reference: AccuracyRecord | None) -> Iterator[Measure]:
    if own is None:
        yield Measure("accuracy", None, name, detail="the export did not run on the test images")
    else:
        detail = f"{own.correct} of {own.total} images"
        yield Measure("accuracy", own.value, name, bound=own.low, detail=detail)
    if own is None or reference is None:
        yield Measure("drop", None, name, detail="one of the two accuracies is missing")
    else:
        yield Measure("drop", reference.value - own.value, name)


def _metrics(name: str, found: MetricsRecord | None, classes: tuple[str, ...]) -> Iterator[Measure]:
    if found is None:
        for quantity in ("class_recall", "macro_f1", "ece"):
            yield Measure(quantity, None, name, detail="the manifest has no metrics of this export")
        return
    yield _lowest_recall(name, found, classes)
    empty = found.recalls.total.count(0)
    left_out = f", without {empty} that have no test images" if empty else ""
    yield Measure("macro_f1", found.macro_f1, name, detail=f"mean of {len(classes) - empty} classes{left_out}")
    bins = f"{found.bins} bins of equal width, {sum(found.recalls.total)} images"
    unknown = "not all logits are finite"
    yield Measure("ece", found.ece, name, detail=bins if found.ece is not None else unknown)


def _lowest_recall(name: str, found: MetricsRecord, classes: tuple[str, ...]) -> Measure:
    """Return the lowest recall of a class; unknown if a class has no test images."""
    recalls = found.recalls
    if empty := [label for label, total in zip(classes, recalls.total, strict=True) if total == 0]:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        return Measure("class_recall", None, name, detail=f"no test image of {empty[0]}{more}. Add test images")
    known = [value if value is not None else 0.0 for value in recalls.value]
    order = sorted(range(len(classes)), key=known.__getitem__)
    lowest = order[0]
    interval = f"95 % interval {100 * (recalls.low[lowest] or 0.0):.1f} to {100 * (recalls.high[lowest] or 0.0):.1f} %"
    return Measure(
        "class_recall",
        known[lowest],
        name,
        detail=f"{classes[lowest]}: {recalls.correct[lowest]} of {recalls.total[lowest]} images, {interval}",
        parts=tuple((classes[index], known[index]) for index in order),
    )
