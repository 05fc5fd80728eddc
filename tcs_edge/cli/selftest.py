"""`tcs-edge selftest`: put faults into good exports and count those detected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tcs_edge.cli.guard import guarded

if TYPE_CHECKING:
    from tcs_edge.selftest.sweep import SelfTest


@guarded
def command(
    student: Annotated[
        list[str] | None, typer.Option(help="Students to test; repeatable. Default: a CNN and a transformer.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also validate good exports of every candidate, to count false alarms.")
    ] = False,
    format: Annotated[
        list[str] | None, typer.Option(help="Also test models in this format: ncnn, litert; repeatable.")
    ] = None,
    with_embedding: Annotated[
        bool, typer.Option("--with-embedding", help="Export an embedding too, and put faults into it.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Put faults into good exports and count those detected.

    Nothing is trained or downloaded. Exit 1 if a fault was missed, or if a good export was rejected.

    \b
    Examples:
      tcs-edge selftest
      tcs-edge selftest --all --json
      tcs-edge selftest --student resnet18 --format ncnn --format litert
      tcs-edge selftest --student resnet18 --with-embedding
    """
    from tcs_edge.cli.output import known
    from tcs_edge.models.candidates import CANDIDATES
    from tcs_edge.models.names import require_student_name
    from tcs_edge.specs.artifacts import FORMATS

    for name in student or ():
        require_student_name(name)
    formats = known(format or [], "--format", FORMATS)
    from tcs_edge.selftest.sweep import QUICK, selftest

    outcome = selftest(student or QUICK, CANDIDATES if every else (), formats, with_embedding)
    if json:
        from tcs_edge.cli.output import print_json

        print_json(outcome.to_json())
    else:
        _print(outcome)
    if not outcome.passed:
        raise typer.Exit(1)


def _print(outcome: SelfTest) -> None:
    from tcs_edge.report.console import print_table

    rows = [(result.fault, result.student, _catchers(result.checks)) for result in outcome.broken]
    print_table(("fault", "student", "detected by"), rows)
    for result in outcome.false_alarms:
        typer.echo(f"FALSE ALARM {result.student}: {'; '.join(result.alarms[:3])}")
    for fault in outcome.untried:
        typer.echo(f"NOT TRIED {fault}. Pass a --student that this fault fits.")
    for name, students in outcome.skipped.items():
        typer.echo(f"without {name}, which does not hold them: {', '.join(students)}")
    caught = len(outcome.broken) - len(outcome.missed)
    typer.echo(f"faults detected: {caught} of {len(outcome.broken)}")
    typer.echo(f"false alarms: {len(outcome.false_alarms)} of {len(outcome.good)} good exports")


def _catchers(checks: tuple[str, ...]) -> str:
    more = f" and {len(checks) - 1} more" if len(checks) > 1 else ""
    return f"{checks[0]}{more}" if checks else "NOT DETECTED"
