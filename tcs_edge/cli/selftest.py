"""`tcs-edge selftest`: break good artifacts on purpose and see whether the proof notices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tcs_edge.cli.guard import guarded

if TYPE_CHECKING:
    from tcs_edge.selftest.sweep import SelfTest


@guarded
def command(
    student: Annotated[
        list[str] | None, typer.Option(help="Students to break, repeatable; default a CNN and a transformer.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Prove good artifacts of every candidate too: are there false alarms?")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Put known faults into good artifacts: are all of them caught, and is every good one passed?

    Nothing is trained or downloaded. Exit 1 if a fault was missed or a good artifact called bad.

    \b
    Examples:
      tcs-edge selftest
      tcs-edge selftest --all --json
      tcs-edge selftest --student resnet18
    """
    from tcs_edge.models.candidates import CANDIDATES
    from tcs_edge.selftest.sweep import QUICK, selftest

    outcome = selftest(student or QUICK, CANDIDATES if every else ())
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
    print_table(("fault", "student", "caught by"), rows)
    for result in outcome.false_alarms:
        typer.echo(f"FALSE ALARM {result.student}: {'; '.join(result.alarms[:3])}")
    for fault in outcome.untried:
        typer.echo(f"NOT TRIED {fault}: name a --student that it can be put into")
    caught = len(outcome.broken) - len(outcome.missed)
    typer.echo(f"faults caught: {caught} of {len(outcome.broken)}")
    typer.echo(f"false alarms: {len(outcome.false_alarms)} of {len(outcome.good)} good artifacts")


def _catchers(checks: tuple[str, ...]) -> str:
    more = f" and {len(checks) - 1} more" if len(checks) > 1 else ""
    return f"{checks[0]}{more}" if checks else "NOT CAUGHT"
