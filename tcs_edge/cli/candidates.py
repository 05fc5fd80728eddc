"""`tcs-edge candidates`: the students to choose from on one target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from tcs_edge.cli.completion import target_names
from tcs_edge.cli.guard import guarded
from tcs_edge.cli.output import echo, known, print_json
from tcs_edge.utils.durations import format_ms

if TYPE_CHECKING:
    from tcs_edge.specs.target import Limits, TargetSpec
    from tcs_edge.students.choice import Assessment

SHORT = ("student", "acc %", "latency ms", "size MB", "params M", "fits")
LONG = (
    "student", "acc %", "params M", "MACs M", "fp32 MB", "fp16 MB", "int8 MB", "latency ms", "interval ms", "runtime",
    "source", "license of weights", "exceeds",
)  # fmt: skip
OVER = {"latency": "slow", "size": "large", "parameters": "params"}


@guarded
def command(
    target: Annotated[
        str, typer.Option(help="Device: a name from `tcs-edge targets`, or a .toml file.", autocompletion=target_names)
    ],
    img_size: Annotated[int, typer.Option(help="Pixels of the student's square input.")] = 224,
    classes: Annotated[int, typer.Option(help="Number of classes; counts in the size.")] = 10,
    max_latency_ms: Annotated[float | None, typer.Option(help="Slowest student allowed.")] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="Largest model file allowed: fp32.")] = None,
    max_params_m: Annotated[float | None, typer.Option(help="Most parameters allowed, in millions.")] = None,
    runtime: Annotated[
        str | None,
        typer.Option(help="Runtime to deploy: onnxruntime or openvino. Default: the fastest one for each student."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="Precision to allow besides fp32: fp16 or int8; repeatable. Default: the target's advice."),
    ] = None,
    max_accuracy_drop: Annotated[
        float, typer.Option(min=0, max=1, help="Largest loss of accuracy by int8, in 0..1.")
    ] = 0.01,
    every: Annotated[
        bool, typer.Option("--all", help="Show every column: MACs, fp16 and int8 sizes, source, license, reasons.")
    ] = False,
    pareto_svg: Annotated[Path | None, typer.Option(help="Also plot the students into this SVG file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List students with accuracy, latency and size.

    Default limits are the target's own. The last line names the choice of `tcs-edge compress`.

    \b
    Examples:
      tcs-edge candidates --target raspberrypi4
      tcs-edge candidates --target raspberrypi4 --img-size 128 --max-latency-ms 20 --json
    """
    from tcs_edge.latency.plausibility import load_target_profile, profile_warnings
    from tcs_edge.specs.artifacts import PRECISIONS, with_fp32
    from tcs_edge.specs.target import Limits, RuntimeName, load_target
    from tcs_edge.students.choice import assess_all, how_to_narrow, limits_on

    used = known([runtime], "--runtime", get_args(RuntimeName))[0] if runtime else None
    device = load_target(target)
    asked_precisions = known(precision or [], "--precision", PRECISIONS)
    allowed = with_fp32(asked_precisions or [device.precision.default])
    asked = Limits(max_latency_ms=max_latency_ms, max_size_mb=max_size_mb, max_params_m=max_params_m)
    limits = limits_on(device, asked)
    profile = load_target_profile(device)
    for line in profile_warnings(profile, device):
        echo(f"warning: {line}", err=True)
    assessments = assess_all(device, profile, img_size, classes, limits, used, allowed, max_accuracy_drop)
    winner = next((found.candidate.name for found in assessments if not found.misses), None)
    if pareto_svg:
        _draw(assessments, limits.max_latency_ms, pareto_svg)
    advice = how_to_narrow(assessments, target, img_size)
    if json:
        from tcs_edge.models.candidates import LEFT_OUT
        from tcs_edge.runs.choice import candidates_record

        record = candidates_record(assessments, device, limits, img_size, classes, used, winner)
        to_narrow = " ".join(line.strip() for line in advice) or None
        print_json(record.model_dump(mode="json") | {"left_out": LEFT_OUT, "to_narrow": to_narrow})
        return
    _print_table(assessments, classes, every)
    _print_limits(limits, device)
    _print_runtimes(assessments)
    _print_machines(assessments)
    _print_front(assessments, winner)
    if every:
        _print_left_out()
    flags = "".join([f" --runtime {used}" if used else "", *(f" --precision {name}" for name in asked_precisions)])
    echo(f"\nchoice of `tcs-edge compress --search table{flags}` at {img_size} px with {classes} classes:")
    chosen = next((found for found in assessments if not found.misses), None)
    echo(f"  {_deployed(chosen) if chosen else 'none, because no student fits'}")
    for line in advice:
        echo(line)


def _print_table(assessments: Sequence[Assessment], classes: int, every: bool) -> None:
    from tcs_edge.report.console import print_table

    row, headings = (_long_row, LONG) if every else (_short_row, SHORT)
    print_table(headings, [row(found, classes) for found in assessments])


def _print_limits(limits: Limits, device: TargetSpec) -> None:
    given = {
        "latency": (limits.max_latency_ms, "ms"),
        "size": (limits.max_size_mb, "MB"),
        "parameters": (limits.max_params_m, "M"),
    }
    shown = [f"{name} {most:g} {unit}" for name, (most, unit) in given.items() if most]
    echo(f"\nlimits on {device.name}: {', '.join(shown) or 'none'}")
    echo("order: students that fit first, then by published ImageNet top-1 accuracy")
    echo("latency: median (interval); --all shows its source and every missed limit")


def _print_runtimes(assessments: Sequence[Assessment]) -> None:
    counts = Counter(found.latency.runtime for found in assessments if found.latency)
    echo("runtime: " + ", ".join(f"{name} ({count} students)" for name, count in counts.most_common()))


def _print_machines(assessments: Sequence[Assessment]) -> None:
    from tcs_edge.report.text import one_line

    latencies = [found.latency for found in assessments if found.latency and found.latency.source == "measured"]
    for machine, count in Counter(latency.machine for latency in latencies).items():
        echo(f"measured latencies: {count} on {one_line(str(machine))}")


def _draw(assessments: Sequence[Assessment], max_latency_ms: float | None, path: Path) -> None:
    from tcs_edge.errors import RequirementMissed
    from tcs_edge.report.page.pareto import assessments_svg
    from tcs_edge.utils.files import write_text

    drawn = assessments_svg(assessments, max_latency_ms)
    if drawn is None:
        raise RequirementMissed("fewer than two students have a latency. Leave --pareto-svg out.")
    write_text(path, drawn)


def _print_front(assessments: Sequence[Assessment], winner: str | None) -> None:
    from tcs_edge.report.pareto import draw_pareto, pareto_lines
    from tcs_edge.students.choice import pareto_front_of

    fitting = [found for found in assessments if not found.misses]
    rejected = [found for found in assessments if found.misses]
    front = pareto_front_of(fitting)
    echo("\nPareto-optimal students (accuracy, latency, size):")
    for line in [*pareto_lines(front), "", *draw_pareto(fitting, rejected, front, winner)]:
        echo(line)


def _print_left_out() -> None:
    from tcs_edge.models.candidates import LEFT_OUT

    echo("\nleft out of the list:")
    for name, reason in LEFT_OUT.items():
        echo(f"  {name}: {reason}")


def _runtime(found: Assessment) -> str:
    """Return the runtime to deploy, with the precision below fp32."""
    name = found.latency.runtime if found.latency else "-"
    return name if found.precision == "fp32" else f"{name} {found.precision}"


def _deployed(found: Assessment) -> str:
    return f"{found.candidate.name} in {_runtime(found)}" if found.latency else found.candidate.name


def _short_row(found: Assessment, classes: int) -> tuple[str, ...]:
    latency = found.latency
    interval = (
        f"{format_ms(latency.p50_ms)} ({format_ms(latency.low_ms)}-{format_ms(latency.high_ms)})" if latency else "-"
    )
    over = f"{len(found.misses)} limits" if len(found.misses) > 1 else "".join(OVER[m.limit] for m in found.misses)
    return (
        found.candidate.name,
        f"{found.expected.percent:.1f}" if found.expected else "-",
        interval,
        f"{found.size_mb:.1f}",
        f"{found.candidate.total_params_m(classes):.2f}",
        over or ("yes" if found.precision == "fp32" else f"in {found.precision}"),
    )


def _long_row(found: Assessment, classes: int) -> tuple[str, ...]:
    from tcs_edge.specs.artifacts import PRECISIONS

    candidate, latency = found.candidate, found.latency
    return (
        candidate.name,
        f"{found.expected.percent:.1f}" if found.expected else "-",
        f"{candidate.total_params_m(classes):.2f}",
        f"{candidate.macs_m:.0f}",
        *(f"{candidate.size_mb(classes, precision):.1f}" for precision in PRECISIONS),
        format_ms(latency.p50_ms) if latency else "-",
        f"{format_ms(latency.low_ms)} to {format_ms(latency.high_ms)}" if latency else "-",
        _runtime(found),
        latency.origin if latency else "unknown",
        candidate.license or "-",
        "; ".join(miss.text for miss in found.misses),
    )
