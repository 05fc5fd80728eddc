"""A run and its validation as a few lines and one table on stdout."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from tcs_edge.report.confidence import confidence_lines, loss_lines
from tcs_edge.report.console import print_table, stdout_console
from tcs_edge.report.metrics import metrics_line
from tcs_edge.report.text import one_line
from tcs_edge.runs.metrics import MetricsRecord
from tcs_edge.utils.durations import format_seconds
from tcs_edge.validation.checks import BETTER_THAN_CHANCE, LEAST_ACCURACY, QUALITY

if TYPE_CHECKING:
    from tcs_edge.runs.schema import Manifest
    from tcs_edge.validation.validate import Validation

SHOWN_FLIPS = 5
SHOWN_SECONDS, SHOWN_SHARE = 1.0, 0.01  # shorter stages are added up


def print_validation(validation: Validation) -> None:
    """Print accuracy and parity of every runtime, every failed check, and the verdict."""
    rows = []
    for name, accuracy in validation.accuracies.items():
        parity = validation.parities.get(name)
        rows.append(
            (
                f"{name} (this machine)" if name in validation.only_here else name,
                validation.precisions[name],
                f"{100 * accuracy.value:.2f}",
                f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}",
                f"{parity.max_abs_diff:.1e}" if parity else "reference",
                f"{100 * parity.top1_agreement:.2f}" if parity else "",
            )
        )
    headings = ("runtime", "precision", "accuracy %", "95 % interval", "max abs diff", "same class %")
    print_table(headings, rows, title=f"{validation.images} test images")
    out = stdout_console()
    if found := [parity.max_rel_diff for name, parity in validation.embeddings.items() if _judged(validation, name)]:
        out.print(f"embedding: {validation.embedding_size} values, largest relative difference {max(found):.1e}")
    for check in validation.failures:
        limit = "" if check.limit is None else f": {check.value:.3g} against {check.limit:.3g} {check.unit}"
        out.print(f"FAILED {check.name}{limit} {check.detail}", markup=False, style="red")
    if validation.only_here:
        out.print("this machine: an arithmetic that the target lacks, without checks")
    _print_flips(validation)
    _print_metrics(validation)
    passed = sum(check.passed for check in validation.checks)
    counts = f"verdict: {validation.verdict} ({passed} of {len(validation.checks)} checks passed)"
    out.print(f"{counts}: {_headline(validation)}" if validation.accuracies else counts, style="bold", soft_wrap=True)


def _judged(validation: Validation, name: str) -> bool:
    return name not in validation.only_here


def _headline(validation: Validation) -> str:
    """Return the outcome of parity and the model's quality, with the 95 % interval of its accuracy and chance."""
    poor = [check.name for check in validation.failures if check.name in QUALITY]
    exports = "exports validated" if validation.exports_verdict == "pass" else "exports not validated"
    name, accuracy = next(iter(validation.accuracies.items()))
    fault = _fault(poor)
    quality = f"model quality{fault}: accuracy {100 * accuracy.value:.1f} %"
    interval = f"95 % interval {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"
    chance = f", chance {100 * validation.chance(name):.1f} %" if validation.classes else ""
    return f"{exports}, {quality} ({interval}{chance})"


def _fault(poor: list[str]) -> str:
    """Name the worst of the failed checks of the quality; empty without any."""
    if BETTER_THAN_CHANCE in poor:
        return " at or below chance"
    if LEAST_ACCURACY in poor:
        return " below --min-accuracy"
    return f" outside its limits ({', '.join(name.removeprefix('model: ') for name in poor)})" if poor else ""


def print_teacher(manifest: Manifest) -> None:
    """Print the accuracy of the teacher's linear probe beside the student's, if it is known."""
    teacher, student = manifest.teacher, next(iter(manifest.accuracy.values()), None)
    if teacher is None or teacher.probe_accuracy is None or student is None:
        return
    stdout_console().print(
        f"teacher probe: {100 * teacher.probe_accuracy:.1f} % of the validation images; "
        f"student: {100 * student.value:.1f} % of the test images"
        + (", below its teacher" if student.high < teacher.probe_accuracy else "")
    )


def print_confidence(manifest: Manifest) -> None:
    """Print calibration, rule for unknown images, and int8 losses."""
    for line in (*confidence_lines(manifest), *loss_lines(manifest)):
        stdout_console().print(line, soft_wrap=True)


def print_latency(manifest: Manifest) -> None:
    """Print the median latency of every runtime on this machine, on one line, and remarks about it."""
    here = manifest.latency_here
    if here is None:
        return
    medians = ", ".join(f"{name} {sample.p50_ms:.2f} ms" for name, sample in here.runtimes.items())
    threads = "1 thread" if here.threads == 1 else f"{here.threads} threads"
    stdout_console().print(f"median latency of one image here, {threads}: {medians}")
    for remark in here.remarks:
        stdout_console().print(remark)


def print_stages(manifest: Manifest) -> None:
    """Print the time of the run with its longer stages, and its peak memory."""
    seconds = {stage.name: stage.seconds for stage in manifest.stages}
    total = sum(seconds.values())
    shown = [name for name in seconds if seconds[name] >= max(SHOWN_SECONDS, SHOWN_SHARE * total)]
    parts = [f"{name} {format_seconds(seconds[name])}" for name in shown]
    if (rest := total - sum(seconds[name] for name in shown)) >= 0.05:
        parts.append(f"others {format_seconds(rest)}")
    stdout_console().print(f"time: {format_seconds(total)} ({', '.join(parts)})")
    peak_mb = max((stage.peak_memory_mb or 0.0 for stage in manifest.stages), default=0.0)
    if peak_mb:
        stdout_console().print(f"peak memory: {peak_mb:.0f} MB")


def print_next_steps(run: Path, validation: Validation) -> None:
    """Print three commands for a run that passed: predict, bundle, and gate with a limit that holds."""
    place = shlex.quote(str(run))
    judged = {name: found for name, found in validation.accuracies.items() if name not in validation.only_here}
    lowest = min((accuracy.low for accuracy in judged.values()), default=0.0)
    out = stdout_console()
    out.print(f"classify images:  tcs-edge predict {place} IMAGE", soft_wrap=True)
    out.print(f"copy to a device: tcs-edge bundle {place}", soft_wrap=True)
    out.print(
        f"check in CI:      tcs-edge gate {place} --min-accuracy {math.floor(100 * lowest) / 100:g}", soft_wrap=True
    )


def _print_metrics(validation: Validation) -> None:
    """Print the metrics of the model of the headline on one line."""
    name = next(iter(validation.accuracies), "")
    if name in validation.metrics:
        found = MetricsRecord.model_validate(validation.metrics[name].to_json())
        line = metrics_line(found, validation.class_names)
        stdout_console().print(f"metrics of {name}: {one_line(line)}", soft_wrap=True)


def _print_flips(validation: Validation) -> None:
    """Print the images that changed class, the largest margin first."""
    out = stdout_console()
    for name, parity in validation.parities.items():
        if name in validation.only_here:
            continue
        for flip in parity.flips[:SHOWN_FLIPS]:
            image = one_line(flip.image) or f"image {flip.index}"
            out.print(
                f"{name} changed {image}: class {flip.reference_class} to {flip.model_class}, margin {flip.margin:.2g}",
                markup=False,
            )
        if parity.flipped > SHOWN_FLIPS:
            out.print(f"{name} changed {parity.flipped - SHOWN_FLIPS} more images; --json lists them", markup=False)
