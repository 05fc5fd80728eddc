"""`tcs-edge compress`: images and a target in, a proven model out."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tcs_edge.cli.completion import method_names, student_names, target_names, teacher_names
from tcs_edge.cli.guard import guarded
from tcs_edge.cli.output import print_json

if TYPE_CHECKING:
    from tcs_edge.pipeline.plan import Plan
    from tcs_edge.pipeline.run import Run

logger = logging.getLogger(__name__)

NOT_OPTIONS = frozenset({"config", "out", "overwrite", "resume", "dry_run", "json", "quiet", "verbose"})


def _training(text: str, *names: str) -> Any:
    """An option that has a panel of its own in --help."""
    return typer.Option(*names, help=text, rich_help_panel="Training: docs/how-to/training.md")


@guarded
def command(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Option(help="Device: a name from `tcs-edge targets`, or a .toml file.", autocompletion=target_names),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Image folder; without it, the built-in digits demo.")] = None,
    rest_unlabeled: Annotated[
        bool | None,
        typer.Option("--rest-unlabeled", help="With shots: the other training images join without labels."),
    ] = None,
    unlabeled: Annotated[Path | None, typer.Option(help="Images without labels that join training.")] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="dinov2, dinov3-small, timm/NAME, ...; default dinov2.", autocompletion=teacher_names),
    ] = None,
    teacher_weights: Annotated[Path | None, typer.Option(help="Local .safetensors of the teacher.")] = None,
    teacher_img_size: Annotated[int | None, typer.Option(help="Pixels of the teacher's input.")] = None,
    student: Annotated[
        str | None, typer.Option(help="A timm name, or auto: the best one that fits.", autocompletion=student_names)
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="How students are compared: table, alignment, halving; default auto.")
    ] = None,
    search_img_sizes: Annotated[
        list[int] | None,
        typer.Option("--search-img-size", help="With halving: an input size to try; repeatable. Default: see docs."),
    ] = None,
    student_init: Annotated[
        str | None, typer.Option(help="pretrained, random, a .safetensors file, or a folder of them.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="tcs, or to compare with: simkd, kd, dkd, ce (cross-entropy).", autocompletion=method_names),
    ] = None,
    online_teacher: Annotated[
        bool | None,
        typer.Option("--online-teacher", help="simkd, kd, dkd: the teacher sees every training view."),
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="Training images per class, drawn by the seed; default all.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per training step.")] = None,
    img_size: Annotated[int | None, typer.Option(help="Pixels of the student's square input.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of AdamW.")] = None,
    augment: Annotated[str | None, typer.Option(help="none, crop (no mirroring), or crop-flip.")] = None,
    amp: Annotated[str | None, _training("Mixed precision: auto, no, bf16 or fp16; default no.")] = None,
    label_smoothing: Annotated[float | None, _training("Share of each label spread over all classes.")] = None,
    mixup: Annotated[float | None, _training("Mix images and their targets; Beta's alpha, such as 0.2.")] = None,
    rand_augment: Annotated[int | None, _training("Magnitude of RandAugment, 1 to 30.")] = None,
    ema_decay: Annotated[float | None, _training("Deploy averaged weights; the decay, such as 0.999.")] = None,
    compile: Annotated[bool | None, _training("Run the training step through torch.compile.", "--compile")] = None,
    deterministic: Annotated[bool | None, _training("Deterministic algorithms alone.", "--deterministic")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Slowest student allowed on the target.")] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="Largest exported ONNX file allowed.")] = None,
    max_params_m: Annotated[float | None, typer.Option(help="Most parameters allowed, in millions.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp16 or int8 beside fp32; repeatable. Default: the target's advice.")
    ] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="Accuracy that int8 may lose; 0.01 is one percentage point, the default.")
    ] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX opset, 18 to 24; default 18, the most portable.")] = None,
    dynamic_batch: Annotated[
        bool | None, typer.Option("--dynamic-batch", help="Export for any number of images at a time, not one.")
    ] = None,
    embed_preprocess: Annotated[
        bool | None,
        typer.Option("--embed-preprocess", help="Also write ONNX files that take uint8 pictures of any size."),
    ] = None,
    compiled_latency: Annotated[
        bool | None, typer.Option("--compiled-latency", help="Also time torch.compile's model; may take minutes.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    threads: Annotated[int | None, typer.Option(help="Compute threads; default: the cores that are free.")] = None,
    workers: Annotated[int | None, typer.Option(help="Image-decoding processes.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="Where teacher features are kept.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with these options, default tcs-edge.toml here; flags win.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<date>-<target>-<student>.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in --out.")] = False,
    resume: Annotated[
        Path | None, typer.Option(help="Continue this interrupted run, or export a failed one anew.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Details, and library warnings.")] = False,
) -> None:
    """Distill, export and prove a classifier for a device.

    Options that no flag sets come from tcs-edge.toml in the current folder (see `tcs-edge init`).

    \b
    Examples:
      tcs-edge compress --target raspberrypi
      tcs-edge compress --target raspberrypi4 --teacher dinov2 --data photos/ --max-latency-ms 20
      tcs-edge compress --target jetson-orin-nano --data photos/ --dry-run
    """
    from tcs_edge.pipeline.plan import make_plan
    from tcs_edge.pipeline.run import compress
    from tcs_edge.project.read import find_options
    from tcs_edge.stages.prepare import settle_options

    given = {name: value for name, value in context.params.items() if name not in NOT_OPTIONS and value is not None}
    for repeatable in ("precision", "search_img_sizes"):  # not given, it comes as an empty list
        if not given.get(repeatable):
            given.pop(repeatable, None)
    if config is None and resume is None and (config := find_options(Path())):
        logger.info(f"options that no flag sets are those of {config}")
    options = settle_options(given, config, resume)
    if dry_run:
        _print_plan(make_plan(options), json)
        return
    run = compress(options, out, overwrite, resume)
    _print_run(run, json)
    if run.manifest.verdict != "pass":
        raise typer.Exit(1)


def _print_run(run: Run, as_json: bool) -> None:
    from tcs_edge.report.summary import print_latency, print_stages, print_validation

    if as_json:
        print_json({"run": str(run.folder.root), **run.manifest.model_dump(mode="json")})
        return
    print_stages(run.manifest)
    print_latency(run.manifest)
    print_validation(run.validation)
    typer.echo(f"report: {run.folder.report}")
    passed = run.manifest.verdict == "pass"
    where = run.folder.export if passed else run.folder.rejected
    typer.echo(f"{'model' if passed else 'NOT DEPLOYABLE'}: {where} ({run.manifest.export_mb:.1f} MB)")
    if not passed and all("-int8" in check.name for check in run.validation.failures):
        again = f"tcs-edge compress --resume {shlex.quote(str(run.path))}"
        typer.echo(
            f"only int8 failed. Without training again: {again} --precision fp32, or with a larger --max-accuracy-drop"
        )


def _print_plan(plan: Plan, as_json: bool) -> None:
    from tcs_edge.report.console import print_table

    if as_json:
        print_json(plan.to_json())
        return
    print_table(("stage", "expected s", "what"), [stage.row() for stage in plan.stages])
    for download in plan.downloads:
        typer.echo(f"would download: {download}")
