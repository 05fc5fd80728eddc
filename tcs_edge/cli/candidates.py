"""`tcs-edge candidates`: the students to choose from, as one target sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from tcs_edge.cli.completion import target_names
from tcs_edge.cli.guard import guarded

if TYPE_CHECKING:
    from tcs_edge.specs.target import RuntimeName
    from tcs_edge.students.choice import Assessment


@guarded
def command(
    target: Annotated[
        str, typer.Option(help="Device: a name from `tcs-edge targets`, or a .toml file.", autocompletion=target_names)
    ],
    img_size: Annotated[int, typer.Option(help="Pixels of the student's square input.")] = 224,
    classes: Annotated[int, typer.Option(help="Number of classes; counts in the size.")] = 10,
    max_latency_ms: Annotated[float | None, typer.Option(help="Slowest student allowed.")] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="Largest exported ONNX file allowed.")] = None,
    max_params_m: Annotated[float | None, typer.Option(help="Most parameters allowed, in millions.")] = None,
    runtime: Annotated[str, typer.Option(help="Whose latencies: onnxruntime or openvino.")] = "onnxruntime",
    pareto_svg: Annotated[Path | None, typer.Option(help="Also draw them into this SVG file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List every student with its accuracy, size and latency, best first, and why others are out.

    \b
    Examples:
      tcs-edge candidates --target raspberrypi4
      tcs-edge candidates --target raspberrypi4 --img-size 128 --max-latency-ms 20 --json
    """
    from tcs_edge.cli.output import known, print_json
    from tcs_edge.latency.plausibility import load_target_profile, stale_versions
    from tcs_edge.specs.target import Limits, load_target
    from tcs_edge.students.choice import assess_all, how_to_narrow

    limits = Limits(max_latency_ms=max_latency_ms, max_size_mb=max_size_mb, max_params_m=max_params_m)
    device = load_target(target)
    profile = load_target_profile(device)
    for line in stale_versions(profile, device):
        typer.echo(f"warning: {line}", err=True)
    known([runtime], "--runtime", ("onnxruntime", "openvino"))
    used: RuntimeName = "openvino" if runtime == "openvino" else "onnxruntime"
    assessments = assess_all(device, profile, img_size, classes, limits, used)
    if pareto_svg:
        _draw(assessments, max_latency_ms, pareto_svg)
    advice = how_to_narrow(assessments, target, img_size)
    if json:
        from tcs_edge.students.record import choice_document

        document = choice_document(assessments, target, img_size, classes, limits, winner=None)
        print_json(document | {"runtime": used, "to_narrow": advice})
        return
    _print_table(assessments, classes)
    _print_front(assessments)
    if advice:
        typer.echo(f"\n{advice}")


def _print_table(assessments: Sequence[Assessment], classes: int) -> None:
    from tcs_edge.report.console import print_table

    headings = (
        "student", "top-1 %", "params M", "MACs M", "fp32 MB", "fp16 MB", "int8 MB", "latency ms", "band ms",
        "source", "weights' license", "out because",
    )  # fmt: skip
    print_table(headings, [_row(found, classes) for found in assessments])


def _draw(assessments: Sequence[Assessment], max_latency_ms: float | None, path: Path) -> None:
    from tcs_edge.errors import RequirementMissed
    from tcs_edge.report.page.pareto import assessments_svg
    from tcs_edge.utils.files import write_text

    drawn = assessments_svg(assessments, max_latency_ms)
    if drawn is None:
        raise RequirementMissed("fewer than two students have a latency: there is nothing to draw.")
    write_text(path, drawn)


def _print_front(assessments: Sequence[Assessment]) -> None:
    from tcs_edge.models.candidates import LEFT_OUT
    from tcs_edge.report.pareto import draw_pareto, pareto_lines
    from tcs_edge.students.choice import pareto_front_of

    fitting = [found for found in assessments if not found.reasons]
    rejected = [found for found in assessments if found.reasons]
    front = pareto_front_of(fitting)
    typer.echo("\nno other that fits is more accurate, faster and smaller:")
    for line in [*pareto_lines(front), "", *draw_pareto(fitting, rejected, front, None)]:
        typer.echo(line)
    typer.echo("\nleft out of the list:")
    for name, reason in LEFT_OUT.items():
        typer.echo(f"  {name}: {reason}")


def _row(found: Assessment, classes: int) -> tuple[str, ...]:
    from tcs_edge.specs.target import Precision

    candidate, latency = found.candidate, found.latency
    return (
        candidate.name,
        f"{found.expected.percent:.1f}" if found.expected else "-",
        f"{candidate.total_params_m(classes):.2f}",
        f"{candidate.macs_m:.0f}",
        *(f"{candidate.size_mb(classes, precision):.1f}" for precision in get_args(Precision)),
        f"{latency.p50_ms:.3g}" if latency else "-",
        f"{latency.low_ms:.3g} to {latency.high_ms:.3g}" if latency else "-",
        latency.source if latency else "unknown",
        candidate.license or "-",
        "; ".join(found.reasons),
    )
