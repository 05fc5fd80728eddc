"""`tcs-edge gate`: check a model against its limits."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.cli.options import given, with_flags_of
from tcs_edge.gate.limits import GateLimits, parse_change

if TYPE_CHECKING:
    from tcs_edge.gate.judge import GateResult

GITLAB_REPORT = "gl-code-quality-report.json"


@guarded
@with_flags_of(GateLimits)
def command(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A run folder, a manifest.json, or an .onnx or .xml file.")
    ],
    max_change: Annotated[
        list[str] | None, typer.Option(help="NAME=AMOUNT against the baseline: size_mb=5%, accuracy=0.01; repeatable.")
    ] = None,
    selfcheck: Annotated[
        Path | None, typer.Option(help="selfcheck.json from the device; its latency replaces the estimate.")
    ] = None,
    allow_other_target: Annotated[
        bool, typer.Option("--allow-other-target", help="Compare with a baseline of another target or precision.")
    ] = False,
    update_baseline: Annotated[Path | None, typer.Option(help="Write the numbers to this baseline file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a pull-request comment to this file.")] = None,
    **options: Any,
) -> None:
    """Check a model against its limits.

    Exit 0 for pass, 1 for fail, 2 for wrong usage. A missing number is a failure.

    Limits come from [gate] in tcs-edge.toml or [tool.tcs-edge.gate] in pyproject.toml. Flags override them.

    \b
    Examples:
      tcs-edge gate runs/pets --max-size-mb 5 --min-accuracy 0.9
      tcs-edge gate runs/pets --update-baseline gate.json
      tcs-edge gate runs/pets --max-latency-ms 20 --selfcheck selfcheck.json
      tcs-edge gate runs/pets --baseline git:origin/main:gate.json --max-change size_mb=5%
    """
    from tcs_edge.gate.check import accept_model, check_model
    from tcs_edge.project.read import find_limits

    with _only_usage_errors():
        limits, origin = find_limits(Path(), _limits(given(options), max_change or []))
        if update_baseline is None:
            result = check_model(model, limits, allow_other_target, selfcheck)
        else:
            result = accept_model(model, limits, update_baseline, selfcheck)
        _print(result, json)
        _write_reports(result, junit, markdown)
        _annotate(result, origin or model)
    if not result.passed:
        raise typer.Exit(1)


@contextmanager
def _only_usage_errors() -> Iterator[None]:
    """Turn every other error into a usage error, so that exit codes 0, 1 and 2 are the only ones."""
    from tcs_edge.errors import RequirementMissed, TcsEdgeError, UsageError
    from tcs_edge.utils.installed import imports_explained

    try:
        with imports_explained():
            yield
    except (RequirementMissed, UsageError, BrokenPipeError):
        raise
    except TcsEdgeError as error:
        raise UsageError(str(error)) from None
    except Exception as error:
        traceback.print_exc()
        name = type(error).__name__
        raise UsageError(f"this is a bug in tcs-edge ({name}). Report the lines above.") from None


def _limits(flags: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    return flags | ({"change": dict(map(parse_change, changes))} if changes else {})


def _print(result: GateResult, as_json: bool) -> None:
    if as_json:
        from tcs_edge.cli.output import print_json

        print_json(result.to_json())
    else:
        from tcs_edge.report.gate import print_gate

        print_gate(result)


def _write_reports(result: GateResult, junit: Path | None, markdown: Path | None) -> None:
    from tcs_edge.report.junit import gate_junit
    from tcs_edge.report.markdown import gate_markdown
    from tcs_edge.utils.files import write_bytes, write_text

    if junit is not None:
        write_bytes(junit, gate_junit(result))
    if markdown is not None:
        write_text(markdown, gate_markdown(result))


def _annotate(result: GateResult, place: Path) -> None:
    """Write annotations in CI: on stderr for GitHub, as a report file for GitLab."""
    from tcs_edge.report.annotations import github_lines, gitlab_report
    from tcs_edge.report.markdown import gate_markdown
    from tcs_edge.utils.files import write_text

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_lines(result, _in_repository(place, "GITHUB_WORKSPACE")):
            typer.echo(line, err=True)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            _append(Path(summary), gate_markdown(result))
    if os.environ.get("GITLAB_CI") == "true":
        write_text(Path(GITLAB_REPORT), gitlab_report(result, _in_repository(place, "CI_PROJECT_DIR")))


def _append(path: Path, text: str) -> None:
    """Append to the CI runner's file, which other commands of the step share."""
    from tcs_edge.errors import UsageError

    try:
        with path.open("a", encoding="utf-8") as handle:
            handle.write(text)
    except OSError as error:
        raise UsageError(
            f"cannot write {path} (GITHUB_STEP_SUMMARY): {error.strerror}. Unset the variable outside of CI."
        ) from None


def _in_repository(place: Path, root_variable: str) -> str:
    """Path of `place` relative to the CI system's checkout."""
    root = Path(os.environ.get(root_variable) or ".").resolve()
    full = place.resolve()
    return (full.relative_to(root) if full.is_relative_to(root) else place).as_posix()
