"""`tcs-edge candidates`: the students to choose from, as one target sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tcs_edge.cli.completion import target_names
from tcs_edge.cli.errors import one_line_errors

if TYPE_CHECKING:
    from tcs_edge.students.choice import Assessment


@one_line_errors
def command(
    target: Annotated[
        str, typer.Option(help="Device: a name from `tcs-edge targets`, or a .toml file.", autocompletion=target_names)
    ],
    img_size: Annotated[int, typer.Option(help="Pixels of the student's square input.")] = 224,
    classes: Annotated[int, typer.Option(help="Number of classes; counts in the size.")] = 10,
    max_latency_ms: Annotated[float | None, typer.Option(help="Slowest student allowed.")] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="Largest exported ONNX file allowed.")] = None,
    max_params_m: Annotated[float | None, typer.Option(help="Most parameters allowed, in millions.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List every student with its accuracy, size and latency, best first, and why others are out.

    \b
    Examples:
      tcs-edge candidates --target raspberrypi4
      tcs-edge candidates --target raspberrypi4 --img-size 128 --max-latency-ms 20 --json
    """
    from tcs_edge.cli.output import print_json
    from tcs_edge.specs.target import Limits, load_target
    from tcs_edge.students.choice import assess_all
    from tcs_edge.students.plausibility import load_target_profile, stale_versions

    limits = Limits(max_latency_ms=max_latency_ms, max_size_mb=max_size_mb, max_params_m=max_params_m)
    device = load_target(target)
    profile = load_target_profile(device)
    for line in stale_versions(profile, device):
        typer.echo(f"warning: {line}", err=True)
    assessments = assess_all(device, profile, img_size, classes, limits)
    if json:
        document = {"schema_version": 1, "target": target, "img_size": img_size}
        print_json(document | {"candidates": [_to_json(found, classes) for found in assessments]})
        return
    from tcs_edge.report.console import print_table

    headings = ("student", "top-1 %", "params M", "size MB", "latency ms", "band ms", "source", "out because")
    print_table(headings, [_row(found, classes) for found in assessments])


def _row(found: Assessment, classes: int) -> tuple[str, ...]:
    candidate, latency = found.candidate, found.latency
    return (
        candidate.name,
        f"{candidate.top1:.1f}" if candidate.top1 else "-",
        f"{candidate.total_params_m(classes):.2f}",
        f"{found.size_mb:.1f}",
        f"{latency.p50_ms:.3g}" if latency else "-",
        f"{latency.low_ms:.3g} to {latency.high_ms:.3g}" if latency else "-",
        latency.source if latency else "unknown",
        "; ".join(found.reasons),
    )


def _to_json(found: Assessment, classes: int) -> dict[str, Any]:
    candidate, latency = found.candidate, found.latency
    return {
        "name": candidate.name,
        "kind": candidate.kind,
        "params_m": candidate.total_params_m(classes),
        "macs_m_at_224": candidate.macs_m,
        "size_mb": found.size_mb,
        "imagenet_top1_percent": candidate.top1,
        "licence": candidate.licence,
        "latency": latency.to_json() if latency else None,
        "rejected_because": list(found.reasons),
    }
