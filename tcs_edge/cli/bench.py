"""`tcs-edge bench`: methods compared on the user's own images, with seeds, ablations and a paired test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcs_edge.cli.guard import guarded
from tcs_edge.cli.output import print_json
from tcs_edge.errors import UsageError

NOT_OPTIONS = frozenset({
    "methods", "ablations", "seeds", "few_shot", "shots", "student", "budget", "config", "out", "json", "quiet",
})  # fmt: skip


@guarded
def command(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the results; what is there is not done again.")],
    data: Annotated[Path | None, typer.Option(help="Image folder; without it, the built-in digits.")] = None,
    methods: Annotated[
        str, typer.Option(help="Comma-separated: tcs, simkd, kd, dkd, ce; simkd-loop, kd-loop, dkd-loop.")
    ] = "tcs,simkd,kd,dkd,ce",
    ablations: Annotated[
        str,
        typer.Option(
            help="Of TCS: random-axes, shuffled-targets, top-variance, no-mimicking, no-mimic-warmup, no-probe, "
            "no-selection, no-teacher."
        ),
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: 0, 1, ...")] = 3,
    few_shot: Annotated[
        bool, typer.Option("--few-shot", help="The few-shot protocol: 1, 2, 3, 4, 5, 8 and 16 images per class.")
    ] = False,
    shots: Annotated[
        list[str] | None, typer.Option(help="Only these numbers of training images per class, such as 1,5,16.")
    ] = None,
    rest_unlabeled: Annotated[
        bool | None,
        typer.Option("--rest-unlabeled", help="With shots: the other training images join without labels."),
    ] = None,
    unlabeled: Annotated[Path | None, typer.Option(help="Images without labels that join training.")] = None,
    budget: Annotated[str | None, typer.Option(help="The same for every run: 30-epochs, or 200k-images seen.")] = None,
    target: Annotated[str | None, typer.Option(help="Device whose limits the student must meet.")] = None,
    teacher: Annotated[str | None, typer.Option(help="As for compress.")] = None,
    teacher_weights: Annotated[Path | None, typer.Option(help="Local .safetensors of the teacher.")] = None,
    teacher_img_size: Annotated[int | None, typer.Option(help="Pixels of the teacher's input.")] = None,
    student: Annotated[list[str] | None, typer.Option(help="A timm name, or auto; repeatable.")] = None,
    student_init: Annotated[str | None, typer.Option(help="pretrained, random, or a file.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per training step.")] = None,
    img_size: Annotated[int | None, typer.Option(help="Pixels of the student's input.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of AdamW.")] = None,
    augment: Annotated[str | None, typer.Option(help="none, crop, or crop-flip.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    threads: Annotated[int | None, typer.Option(help="Compute threads.")] = None,
    workers: Annotated[int | None, typer.Option(help="Image-decoding processes.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="Where teacher features are kept.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with options of compress; flags win.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
) -> None:
    """Compare training methods: same student, images and budget, each run in its own process.

    \b
    Examples:
      tcs-edge bench --out bench/
      tcs-edge bench --out bench/ --data photos/ --methods tcs,kd,ce --seeds 3 --student lcnet_050
    """
    from tcs_edge.bench.budget import parse_budget
    from tcs_edge.bench.grid import FEW_SHOTS, SCHEMA_VERSION, arms_of, make_runs
    from tcs_edge.bench.plan import plan_shared
    from tcs_edge.bench.rows import make_rows
    from tcs_edge.bench.run import run_bench
    from tcs_edge.bench.table import write_table
    from tcs_edge.stages.prepare import settle_options

    given = {name: value for name, value in context.params.items() if name not in NOT_OPTIONS and value is not None}
    if config is None:
        given.setdefault("target", "x86-avx2")
    counts = _shots(shots) or (list(FEW_SHOTS) if few_shot else [])
    options = settle_options(given | ({"shots": counts[0]} if counts else {}), config, None)
    arms = arms_of(_names(methods), _names(ablations))
    spend = parse_budget(budget) if budget else None
    shared = plan_shared(options, student or [options.student], counts or [options.shots], spend, arms)
    rows = make_rows(run_bench(make_runs(shared, arms, range(seeds)), out))
    markdown = write_table(rows, out)
    if json:
        print_json({"schema_version": SCHEMA_VERSION, "rows": [row.to_json() for row in rows]})
    else:
        typer.echo(markdown)


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _shots(listed: list[str] | None) -> list[int]:
    """Numbers of training images per class, in ascending order."""
    words = _names(",".join(listed or []))
    if listed and not (words and all(word.isdecimal() and int(word) > 0 for word in words)):
        raise UsageError(f"--shots {','.join(listed)!r}: numbers of images per class were expected, such as 1,5,16.")
    return sorted({int(word) for word in words})
