"""`tcs-edge profile`: measure latencies on this machine, or merge profiles."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.cli.measuring import MaxSpread, Retries, Rounds, Seconds
from tcs_edge.cli.output import echo

if TYPE_CHECKING:
    from tcs_edge.specs.profile import LatencyRow, Profile
    from tcs_edge.specs.target import TargetSpec

logger = logging.getLogger(__name__)

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@guarded
def command(
    context: typer.Context,
    target: Annotated[str | None, typer.Option(help="Target for this machine: a name, or a .toml file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Profile to write; existing rows stay.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A timm name; repeatable. Default: every candidate.")] = None,
    img_size: Annotated[
        list[int] | None, typer.Option(min=8, help="Pixels; repeatable. Default: 32, 64, ... 224.")
    ] = None,
    runtime: Annotated[
        list[str] | None, typer.Option(help="onnxruntime or openvino; repeatable. Default: the target's.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Repeatable. Default: 1 and the target's thread count.")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32, fp16 or int8; repeatable. Default: fp32.")] = None,
    rounds: Rounds = 5,
    seconds: Seconds = 0.15,
    max_spread: MaxSpread = 0.15,
    retries: Retries = 2,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Measure the latency of students on this machine.

    After Ctrl-C, run the command again to continue. Exit 1 if a latency was too noisy or a graph did not run.

    \b
    Examples:
      tcs-edge profile --target raspberrypi5 --model lcnet_050 --img-size 96 --out mine.json
    """
    if context.invoked_subcommand:
        return
    from datetime import UTC, datetime

    from tcs_edge.cli.output import known
    from tcs_edge.errors import UsageError
    from tcs_edge.models.names import require_student_name
    from tcs_edge.specs.artifacts import PRECISIONS
    from tcs_edge.specs.target import RuntimeName, load_target

    if target is None or out is None:
        raise UsageError("pass --target (the target for this machine) and --out (the profile to write).")
    device = load_target(target)
    runtimes = known(runtime or [], "--runtime", get_args(RuntimeName))
    precisions = known(precision or ["fp32"], "--precision", PRECISIONS)
    for name in model or ():
        require_student_name(name)
    from tcs_edge.profiling.device.results import shown
    from tcs_edge.profiling.device.rounds import Plan
    from tcs_edge.profiling.record import Request, record_profile

    request = Request(device, tuple(model or ()), tuple(img_size or ()), runtimes, tuple(threads or ()), precisions)
    plan = Plan(rounds, seconds, max_spread, retries)
    recording = record_profile(request, plan, out, datetime.now(UTC).date())
    for line in shown(recording.refused):
        logger.warning(line)
    _show(recording.profile, out, json)
    if recording.refused:
        raise typer.Exit(1)


@app.command("merge")
@guarded
def merge(
    profiles: Annotated[
        list[str],
        typer.Argument(
            metavar="PROFILE", help="Profiles by name or path, results of a profiler bundle or of a self-check."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Profile to write.")],
    target: Annotated[str | None, typer.Option(help="Target to check against; default: the profiles' own.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Merge several profiles of one target.

    Measured rows go before published and estimated ones, then newer before older, then later arguments.

    \b
    Examples:
      tcs-edge profile merge raspberrypi5 result.json --out mine.json
    """
    from tcs_edge.latency.plausibility import profile_warnings, require_plausible
    from tcs_edge.profiling.merge import merge_profiles, read_results, with_shared_target
    from tcs_edge.specs.profile import save_profile
    from tcs_edge.specs.target import load_target
    from tcs_edge.utils.lock import owned_file

    device = load_target(target) if target else None
    with owned_file(out):  # it may be one of the profiles to read
        read = [read_results(name, device.name if device else None) for name in profiles]
        if device is None:
            device = _target_of(read[0], profiles[0])
        read = [with_shared_target(profile, device) for profile in read]
        for profile, name in zip(read, profiles, strict=True):
            require_plausible(profile, device, name)
        merged = merge_profiles(read, profiles)
        for line in profile_warnings(merged, device):
            logger.warning(line)
        save_profile(merged, out)
    _show(merged, out, json)


def _target_of(profile: Profile, origin: str) -> TargetSpec:
    from tcs_edge.errors import UsageError
    from tcs_edge.specs.target import list_targets, load_target

    if profile.target not in list_targets():
        raise UsageError(f"{origin} has the target {profile.target}, which is not a shipped one. Pass --target FILE.")
    return load_target(profile.target)


def _show(profile: Profile, out: Path, as_json: bool) -> None:
    if as_json:
        from tcs_edge.cli.output import print_json

        print_json(profile.model_dump(mode="json", exclude_none=True))
        return
    from tcs_edge.report.console import print_table

    headings = (
        "model",
        "size px",
        "runtime",
        "threads",
        "precision",
        "p50 ms",
        "interval ms",
        "p99 ms",
        "memory MB",
        "source",
    )
    print_table(headings, [_cells(row) for row in profile.rows])
    echo(f"profile: {out} ({len(profile.rows)} rows)")


def _cells(row: LatencyRow) -> tuple[str, ...]:
    return (
        row.model,
        str(row.img_size),
        row.runtime,
        str(row.threads),
        row.precision,
        f"{row.p50_ms:.3g}",
        f"{row.low_ms:.3g} to {row.high_ms:.3g}",
        "-" if row.p99_ms is None else f"{row.p99_ms:.3g}",
        "-" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}",
        row.source,
    )
