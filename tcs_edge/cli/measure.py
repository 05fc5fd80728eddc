"""`tcs-edge measure`: measure students on a board over ssh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.cli.measuring import MaxSpread, Retries, Rounds, Seconds

if TYPE_CHECKING:
    from tcs_edge.profiling.measure import Measured


@guarded
def command(
    ssh: Annotated[str, typer.Option(metavar="USER@HOST", help="The board, as for ssh.")],
    target: Annotated[str, typer.Option(help="Target for this board: a name, or a .toml file.")],
    out: Annotated[
        Path | None, typer.Option(help="Profile to write; its rows stay. Default: <target>-measured.json here.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A timm name; repeatable. Default: 16, some two minutes per runtime."),
    ] = None,
    img_size: Annotated[list[int] | None, typer.Option(min=8, help="Pixels; repeatable. Default: 224.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32 or int8; repeatable. Default: fp32.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of ssh. Default: ssh's own.")] = None,
    identity: Annotated[Path | None, typer.Option(help="File of the private key. Default: ssh's own.")] = None,
    python: Annotated[str, typer.Option(help="Python on the board, relative to its home folder.")] = "python3",
    rounds: Rounds = 5,
    seconds: Seconds = 0.15,
    max_spread: MaxSpread = 0.15,
    retries: Retries = 2,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Measure students on a board over ssh.

    The latencies are merged into a profile. Needs a key for the board (BatchMode: no passwords), and there Python,
    NumPy and onnxruntime. Nothing is merged unless the whole result arrived. Run the same command again to continue.
    Exit 1 if a latency was too noisy.

    \b
    Examples:
      tcs-edge measure --ssh pi@raspberrypi.local --target raspberrypi5
      tcs-edge measure --ssh pi@10.0.0.7 --target raspberrypi4 --python venv/bin/python --out mine.json
    """
    from tcs_edge.cli.output import known
    from tcs_edge.models.names import require_student_name
    from tcs_edge.specs.target import load_target

    device = load_target(target)
    for name in model or ():
        require_student_name(name)
    precisions = known(precision or ["fp32"], "--precision", ("fp32", "int8"))
    from tcs_edge.profiling.device.rounds import Plan
    from tcs_edge.profiling.measure import measure_board
    from tcs_edge.profiling.remote import Board
    from tcs_edge.students.build import require_student

    for name in model or ():
        require_student(name)
    path = out or Path(f"{device.name}-measured.json")
    board = Board(ssh, port, identity, python.removeprefix("~/"))  # ssh starts there
    plan = Plan(rounds, seconds, max_spread, retries)
    found = measure_board(board, device, path, tuple(model or ()), tuple(img_size or ()), precisions, plan)
    _show(found, path, target, json)
    if not found.complete:
        raise typer.Exit(1)


def _show(found: Measured, path: Path, target: str, as_json: bool) -> None:
    if as_json:
        from tcs_edge.cli.output import print_json

        print_json(found.profile.model_dump(mode="json", exclude_none=True))
        return
    typer.echo(f"profile: {path} ({found.rows} latencies measured, {len(found.profile.rows)} rows)")
    for runtime, (before, after) in found.intervals.items():
        if before and after:
            typer.echo(f"typical interval of a student in {runtime}: x/÷ {before:.2f} before, x/÷ {after:.2f} now")
    typer.echo(f"typical interval of a measured latency: x/÷ {found.own:.2f}")
    typer.echo(f'to use it: a target file with `extends = "{target}"` and `profile = "{path.name}"` beside it')
