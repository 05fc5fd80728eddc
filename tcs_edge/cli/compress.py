"""`tcs-edge compress`: images and a target in, a validated model out."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.cli.options import given, with_flags_of
from tcs_edge.cli.output import print_json, require_names
from tcs_edge.report.text import one_line
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.options import RunOptions
from tcs_edge.utils.launcher import launched

if TYPE_CHECKING:
    from tcs_edge.pipeline.plan import Plan
    from tcs_edge.pipeline.run import Run

logger = logging.getLogger(__name__)


def _run(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=RunOptions.panel)


@guarded
@with_flags_of(CompressConfig)
def command(
    config: Annotated[Path | None, _run("TOML file of options; flags win. Default: tcs-edge.toml here.")] = None,
    out: Annotated[Path | None, _run("Run folder. Default: runs/<date>-<target>-<student>, then -2, -3.")] = None,
    overwrite: Annotated[bool, _run("Replace an earlier run in --out.", "--overwrite")] = False,
    resume: Annotated[
        Path | None, _run("Continue this interrupted run, or the newest in this folder; or export a failed one anew.")
    ] = None,
    dry_run: Annotated[bool, _run("Print the plan and stop.", "--dry-run")] = False,
    json: Annotated[bool, _run("Print one JSON document on stdout.", "--json")] = False,
    quiet: Annotated[bool, _run("Show only warnings on stderr.", "--quiet", "-q")] = False,
    verbose: Annotated[bool, _run("Show details and library warnings.", "--verbose", "-v")] = False,
    **options: Any,
) -> None:
    """Distill, export and validate a classifier for a device.

    Read options from tcs-edge.toml in the current folder (see `tcs-edge init`); flags override them.

    \b
    Examples:
      tcs-edge compress --target raspberrypi
      tcs-edge compress --target raspberrypi4 --data photos/ --max-latency-ms 20
      tcs-edge compress --target jetson-orin-nano --data photos/ --dry-run
    """
    from tcs_edge.project.read import find_options, find_resumable, read_options

    if resume is not None and (found := find_resumable(resume, given(options))) != resume:
        logger.info(f"resume: {found}")
        resume = found
    if config is None and resume is None and (config := find_options(Path())):
        logger.info(f"options: {config} (flags override it)")
    asked = read_options(given(options), config, resume)
    require_names(asked)
    if dry_run:
        if launched().rank:
            raise typer.Exit  # rank 0 prints the plan
        from tcs_edge.pipeline.plan import make_plan

        _print_plan(make_plan(asked), json)
        return
    from tcs_edge.pipeline.run import compress

    run = compress(asked, out, overwrite, resume)
    _print_run(run, json)
    if not run.passed:
        raise typer.Exit(1)


def _print_run(run: Run, as_json: bool) -> None:
    from tcs_edge.report.summary import (
        print_confidence,
        print_latency,
        print_next_steps,
        print_stages,
        print_teacher,
        print_validation,
    )
    from tcs_edge.runs.device_file import shown_device_file

    if as_json:
        print_json({"run": str(run.folder.root), **run.manifest.model_dump(mode="json")})
        return
    print_stages(run.manifest)
    print_latency(run.manifest)
    print_teacher(run.manifest)
    print_confidence(run.manifest)
    print_validation(run.validation)
    typer.echo(one_line(f"report: {run.folder.report}"))
    device = shown_device_file(run.manifest)
    if device:
        typer.echo(one_line(f"model for the device: {run.folder.export / device.name} ({device.facts})"))
    else:
        typer.echo(one_line(f"NOT DEPLOYABLE: {run.folder.rejected} ({run.manifest.export_mb:.1f} MB)"))
    if run.passed:
        print_next_steps(run.path, run.validation)
    elif all("-int8" in check.name for check in run.validation.failures):
        again = f"tcs-edge compress --resume {shlex.quote(str(run.path))}"
        typer.echo(
            f"only int8 failed. Export again without training: {again} --precision fp32, "
            "or with a larger --max-accuracy-drop"
        )


def _print_plan(plan: Plan, as_json: bool) -> None:
    from tcs_edge.report.console import print_table

    if as_json:
        print_json(plan.to_json())
        return
    print_table(("stage", "expected", "what"), plan.rows())
    for download in plan.downloads:
        typer.echo(f"would download: {download}")
