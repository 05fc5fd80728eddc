"""`tcs-edge bundle-profiler`: a folder that measures latencies on a device without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded


@guarded
def command(
    target: Annotated[str, typer.Option(help="Device: a name from `tcs-edge targets`, or a .toml file.")],
    out: Annotated[Path, typer.Option(help="Output folder; must be new or empty.")],
    model: Annotated[list[str] | None, typer.Option(help="A timm name; repeatable. Default: every candidate.")] = None,
    img_size: Annotated[list[int] | None, typer.Option(min=8, help="Pixels; repeatable. Default: 224.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32 or int8; repeatable. Default: fp32.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Write a folder that measures latency on a device.

    The device needs Python, NumPy and onnxruntime. Read the result with `tcs-edge profile merge`.

    \b
    Examples:
      tcs-edge bundle-profiler --target raspberrypi5 --model lcnet_050 --img-size 96 --out profiler/
    """
    from tcs_edge.cli.output import known
    from tcs_edge.models.candidates import CANDIDATES
    from tcs_edge.models.names import require_student_name
    from tcs_edge.specs.target import load_target

    device = load_target(target)
    models = tuple(dict.fromkeys(model or CANDIDATES))
    for name in models:
        require_student_name(name)
    precisions = known(precision or ["fp32"], "--precision", ("fp32", "int8"))
    sizes = tuple(dict.fromkeys(img_size or [224]))
    from tcs_edge.profiling.bundle import SCRIPT, bundle_profiler
    from tcs_edge.students.build import require_student

    for name in models:
        require_student(name)
    files = bundle_profiler(device, models, sizes, precisions, out)
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    typer.echo(f"{out}: {len(files)} models, {size_mb:.0f} MB. On the device: python {SCRIPT} (see its README.md)")
