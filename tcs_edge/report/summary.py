"""A run and its proof as a few lines and tables on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcs_edge.report.console import print_table, stdout_console
from tcs_edge.report.text import one_line

if TYPE_CHECKING:
    from tcs_edge.runs.schema import Manifest
    from tcs_edge.validation.validate import Validation

SHOWN_FLIPS = 5


def print_validation(validation: Validation) -> None:
    """Accuracy and parity of every runtime, every check that failed, and the verdict."""
    rows = []
    for name, accuracy in validation.accuracies.items():
        parity = validation.parities.get(name)
        rows.append(
            (
                name,
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
    for check in validation.failures:
        limit = "" if check.limit is None else f": {check.value:.3g} against {check.limit:.3g} {check.unit}"
        out.print(f"FAILED {check.name}{limit} {check.detail}", markup=False, style="red")
    _print_flips(validation)
    passed = sum(check.passed for check in validation.checks)
    out.print(f"verdict: {validation.verdict} ({passed} of {len(validation.checks)} checks passed)", style="bold")


def print_latency(manifest: Manifest) -> None:
    """How fast one image is in every runtime on the machine that exported."""
    here = manifest.latency_here
    if here is None:
        return
    rows = [
        (name, f"{sample.p50_ms:.2f}", f"{sample.p90_ms:.2f}", f"{sample.p99_ms:.2f}", str(sample.runs))
        for name, sample in here.runtimes.items()
    ]
    threads = "1 thread" if here.threads == 1 else f"{here.threads} threads"
    print_table(("runtime", "p50 ms", "p90 ms", "p99 ms", "runs"), rows, title=f"one image on this machine, {threads}")
    for remark in here.remarks:
        stdout_console().print(remark)


def print_stages(manifest: Manifest) -> None:
    """What each stage took."""
    rows = [
        (stage.name, f"{stage.seconds:.1f}", f"{stage.peak_memory_mb:.0f}" if stage.peak_memory_mb else "-")
        for stage in manifest.stages
    ]
    print_table(("stage", "time s", "peak memory MB"), rows)


def _print_flips(validation: Validation) -> None:
    """The images that changed class, the largest margin first."""
    out = stdout_console()
    for name, parity in validation.parities.items():
        for flip in parity.flips[:SHOWN_FLIPS]:
            image = one_line(flip.image) or f"image {flip.index}"
            out.print(
                f"{name} changed {image}: class {flip.reference_class} to {flip.model_class}, margin {flip.margin:.2g}",
                markup=False,
            )
        if parity.flipped > SHOWN_FLIPS:
            out.print(f"{name} changed {parity.flipped - SHOWN_FLIPS} more images; --json lists them", markup=False)
