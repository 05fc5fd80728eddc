"""`tcs-edge bench`: comparison of training methods on the user's images, with seeds and a paired test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tcs_edge.bench.grid import ABLATIONS, ARMS, FEW_SHOTS, SCHEMA_VERSION, arms_of, make_runs
from tcs_edge.cli.completion import target_names
from tcs_edge.cli.guard import guarded
from tcs_edge.cli.options import given, with_flags_of
from tcs_edge.cli.output import echo, print_json, require_names
from tcs_edge.errors import UsageError
from tcs_edge.specs.config import CompressConfig

DEFAULT_TARGET = "x86-avx2"
# Options of `compress` that apply to every run of a comparison.
SHARED = (
    "data", "unlabeled", "rest_unlabeled", "teacher", "teacher_weights", "teacher_img_size", "teacher_onnx",
    "teacher_mean", "teacher_std", "teacher_layout", "teacher_output", "teacher_features", "student_init",
    "exclude", "column", "allow_leaks", "batch_size", "img_size", "lr", "augment", "device", "threads", "workers",
    "cache_dir", "cache_gb",
)  # fmt: skip


@guarded
@with_flags_of(CompressConfig, SHARED)
def command(
    out: Annotated[Path, typer.Option(help="Output folder; finished runs in it are kept.")],
    methods: Annotated[
        str, typer.Option(help=f"Comma-separated: {', '.join(ARMS)}. With -loop the teacher stays in memory.")
    ] = "tcs,simkd,kd,dkd,ce",
    ablations: Annotated[
        str,
        typer.Option(help=f"TCS without one part, comma-separated: {', '.join(ABLATIONS)}."),
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, ...")] = 3,
    few_shot: Annotated[
        bool, typer.Option("--few-shot", help="Few-shot protocol: 1, 2, 3, 4, 5, 8 and 16 images per class.")
    ] = False,
    shots: Annotated[
        list[str] | None, typer.Option(help="Numbers of training images per class, such as 1,5,16.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Training budget of every run: 30-epochs, or 200k-images.")] = None,
    lr_grid: Annotated[
        str | None,
        typer.Option(help="Learning rates such as 5e-4,1e-3,2e-3: each method uses its best by validation accuracy."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help=f"Target: name or path of a .toml file. Default: {DEFAULT_TARGET}; with --config its own.",
            autocompletion=target_names,
        ),
    ] = None,
    student: Annotated[list[str] | None, typer.Option(help="A timm name, or auto; repeatable.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with options of compress; flags win.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
    **options: Any,
) -> None:
    """Compare training methods: same student, images and budget, each run in its own process.

    \b
    Examples:
      tcs-edge bench --out bench/
      tcs-edge bench --out bench/ --data photos/ --methods tcs,kd,ce --seeds 3 --student lcnet_050
    """
    from tcs_edge.bench.budget import parse_budget
    from tcs_edge.bench.tune import parse_rates
    from tcs_edge.project.read import read_options

    arms, spend = arms_of(_names(methods), _names(ablations)), parse_budget(budget) if budget else None
    if not arms:
        raise UsageError("nothing to compare. Pass --methods, such as tcs,ce, or --ablations.")
    rates = parse_rates(lr_grid) if lr_grid is not None else ()
    if rates and options.get("lr") is not None:
        raise UsageError("--lr-grid chooses the learning rate. Leave --lr out.")
    counts = _shots(shots) or (list(FEW_SHOTS) if few_shot else [])
    chosen = target or (None if config else DEFAULT_TARGET)
    flags = given(options) | ({"target": chosen} if chosen else {})
    asked = read_options(flags | ({"shots": counts[0]} if counts else {}), config, None)
    for name in student or [asked.student]:
        require_names(asked.replaced(student=name))

    # Only now: these import torch.
    from tcs_edge.bench.plan import plan_shared
    from tcs_edge.bench.rows import make_rows
    from tcs_edge.bench.run import run_bench
    from tcs_edge.bench.table import write_table
    from tcs_edge.bench.tune import run_tuned
    from tcs_edge.stages.weights import require_weights
    from tcs_edge.utils.lock import owned_folder

    shared = plan_shared(asked, student or [asked.student], counts or [asked.shots], spend, arms)
    require_weights(*(each.options for each in shared), teacher=False)
    with owned_folder(out):
        if rates:
            rows = make_rows(*run_tuned(shared, arms, range(seeds), rates, out))
        else:
            rows = make_rows(run_bench(make_runs(shared, arms, range(seeds)), out))
        markdown = write_table(rows, out)
    if json:
        print_json({"schema_version": SCHEMA_VERSION, "rows": [row.to_json() for row in rows]})
    else:
        echo(markdown)


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _shots(listed: list[str] | None) -> list[int]:
    """Numbers of training images per class, in ascending order."""
    words = _names(",".join(listed or []))
    if listed and not (words and all(word.isdecimal() and int(word) > 0 for word in words)):
        raise UsageError(f"--shots: not numbers of images per class: {','.join(listed)!r}. Write them such as 1,5,16.")
    return sorted({int(word) for word in words})
