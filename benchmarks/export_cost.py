"""Measure file sizes, losses of each precision, and the time of export, int8 and validation for a student.

    python benchmarks/export_cost.py --data photos/ --student tf_efficientnet_lite0 --init weights.safetensors

Nothing is trained. The backbone keeps the weights of `--init`. A linear probe on its features of `--train` images is
the classifier. The code of the package then exports fp32, fp16 and int8, checks int8 against `--max-accuracy-drop` on
the validation images, and validates every file on `--test` test images. Prints tables. `--out` writes everything as
JSON, including the cost of every layer. Exits 1 if the validation fails or an int8 file is not released.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tcs_edge.data import ImageSet, Preprocess, Split
from tcs_edge.data.folders import load_data
from tcs_edge.export.onnx import export_onnx
from tcs_edge.export.own_formats import export_own_formats
from tcs_edge.export.preprocess import write_labels, write_preprocess
from tcs_edge.labels.linear_probe import fit_linear_probe
from tcs_edge.quantization.fallback import Round
from tcs_edge.report.console import print_table, terminal
from tcs_edge.specs.artifacts import PRECISIONS, onnx_file
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.defaults import ChosenStudent, Machine, resolve, with_data_defaults
from tcs_edge.specs.target import load_target, openvino_arithmetic
from tcs_edge.stages.export_student import StudentExport
from tcs_edge.stages.precisions import Int8Record, export_fp16, export_int8
from tcs_edge.stages.validate import validate_exports
from tcs_edge.students.build import build_student, deployable, student_mean_std
from tcs_edge.utils.files import write_json
from tcs_edge.utils.stopwatch import Stopwatch
from tcs_edge.utils.threads import use_threads
from tcs_edge.validation.validate import Validation

BATCH = 64
MOST_SENSITIVE = 10  # layers in the table


def main() -> int:
    arguments = parse_arguments()
    use_threads(arguments.threads)
    watch, cpu_s = Stopwatch(), {}
    images, preprocess = few_images(arguments), student_preprocess(arguments)
    with timed(watch, cpu_s, "linear probe"):
        model = probed(arguments, images.train, preprocess)
    with tempfile.TemporaryDirectory() as place:
        exports = Path(place) / "export"
        options = resolved_options(arguments)
        with timed(watch, cpu_s, "export fp32"):
            export_fp32(model, exports, images.classes, preprocess)
        with timed(watch, cpu_s, "validate fp32"):
            fp32 = validate_exports(model, exports, images, preprocess, options)
        with timed(watch, cpu_s, "export fp16"):
            export_fp16(exports)
        with timed(watch, cpu_s, "int8"):
            target = load_target(arguments.target)
            student = StudentExport(model, images, preprocess, target, options)
            record = export_int8(exports, student, Path(place) / "int8.safetensors")
        with timed(watch, cpu_s, "validate all"):
            every = options.replaced(precision=PRECISIONS)
            arithmetic = openvino_arithmetic(target.model_dump(mode="json"))
            validation = validate_exports(model, exports, images, preprocess, every, arithmetic=arithmetic)
        sizes = file_sizes(exports)
    show(watch, cpu_s, sizes, record, validation)
    if arguments.out:
        document = {"settings": {name: str(value) for name, value in vars(arguments).items()}, "bytes": sizes}
        stages = [stage.to_json() | {"cpu_seconds": cpu_s[stage.name]} for stage in watch.stages]
        validations = {"validation_fp32": fp32.to_json(), "validation": validation.to_json()}
        write_json(
            arguments.out, {"schema_version": 1, **document, "stages": stages, "int8": record.to_json(), **validations}
        )
    released = all(made.held for made in record.formats)
    return 0 if released and validation.verdict == fp32.verdict == "pass" else 1


@contextmanager
def timed(watch: Stopwatch, cpu_s: dict[str, float], name: str) -> Iterator[None]:
    """Measure stage `name`: wall time, and CPU seconds, which other programs do not affect."""
    started = time.process_time()
    with watch.stage(name):
        yield
    cpu_s[name] = round(time.process_time() - started, 1)


def few_images(arguments: argparse.Namespace) -> ImageSet:
    """Draw the requested number of images of each part of the folder."""
    images = load_data(arguments.data)
    parts = {name: getattr(images, name) for name in ("train", "val", "test")}
    few = {name: drawn(part, getattr(arguments, name)) for name, part in parts.items()}
    return ImageSet(images.name, images.classes, few["train"], few["val"], few["test"], images.fingerprint)


def drawn(split: Split, count: int) -> Split:
    """Draw at most `count` images of `split`."""
    return split.subset(np.sort(np.random.default_rng(0).permutation(len(split))[:count]))


def student_preprocess(arguments: argparse.Namespace) -> Preprocess:
    mean, std = student_mean_std(arguments.student)
    return Preprocess(arguments.img_size, mean=mean, std=std)


@torch.no_grad()
def probed(arguments: argparse.Namespace, train: Split, preprocess: Preprocess) -> nn.Module:
    """Return the student with the weights of `--init` and a linear probe as classifier, in eval mode."""
    init = arguments.init if arguments.init in ("pretrained", "random") else Path(arguments.init)
    backbone = deployable(build_student(arguments.student, arguments.img_size, init, seed=0))
    starts = range(0, len(train), BATCH)
    features = torch.cat([backbone(pixels(train, range(s, min(s + BATCH, len(train))), preprocess)) for s in starts])
    probe = fit_linear_probe(features.numpy(), train.labels)
    classes, width = probe.weight.shape
    head = nn.Linear(width, classes)
    head.weight.copy_(torch.from_numpy(probe.weight))
    head.bias.copy_(torch.from_numpy(probe.bias))
    return nn.Sequential(backbone, head).eval()


def pixels(split: Split, rows: range, preprocess: Preprocess) -> torch.Tensor:
    return torch.from_numpy(np.stack([preprocess(split.image(row)) for row in rows]))


def resolved_options(arguments: argparse.Namespace) -> ResolvedConfig:
    given = {
        "target": arguments.target, "student": arguments.student, "max_accuracy_drop": arguments.max_accuracy_drop,
    }  # fmt: skip
    asked = with_data_defaults(CompressConfig.model_validate(given), arguments.img_size)
    student = ChosenStudent(arguments.student, "unknown", arguments.img_size)
    return resolve(asked, student, "table", ("fp32",), Machine(arguments.threads, workers=0, amp="no"))


def export_fp32(model: nn.Module, exports: Path, classes: tuple[str, ...], preprocess: Preprocess) -> None:
    steps = preprocess.to_json()
    source = exports / onnx_file("fp32")
    export_onnx(model, source, preprocess.img_size, labels=classes, preprocess=steps)
    export_own_formats(exports)
    write_labels(exports / "labels.txt", classes)
    write_preprocess(exports / "preprocess.json", steps)


def file_sizes(exports: Path) -> dict[str, int]:
    """Return the bytes of every file in `exports`, by relative path."""
    files = sorted(path for path in exports.rglob("*") if path.is_file())
    return {path.relative_to(exports).as_posix(): path.stat().st_size for path in files}


def show(
    watch: Stopwatch, cpu_s: dict[str, float], sizes: dict[str, int], record: Int8Record, validation: Validation
) -> None:
    stages = [(s.name, f"{s.seconds:.1f}", f"{cpu_s[s.name]:.1f}", f"{s.peak_memory_mb:.0f}") for s in watch.stages]
    print_table(("stage", "s", "s of one core", "peak MB"), stages)
    print_table(("file", "bytes"), [(name, str(size)) for name, size in sizes.items() if "model" in name])
    for made in record.formats:
        print_table(
            (f"int8 {made.format}", "lost, points", "at 95 %", "SQNR dB", ""), rounds(made.rounds, len(record.costs))
        )
        if made.schemes:
            sys.stdout.write(
                "noise: " + ", ".join(f"{name} {share:.2g}" for name, share in made.schemes.items()) + "\n"
            )
    print_table(
        ("most sensitive layers", "kind", "noise"),
        [(c.name, c.kind, f"{c.noise:.2g}") for c in record.costs[:MOST_SENSITIVE]],
    )
    rows = [
        (name, f"{100 * accuracy.value:.2f}", flips(validation, name))
        for name, accuracy in validation.accuracies.items()
    ]
    print_table((f"{validation.images} test images", "accuracy %", "changed class"), rows)
    for check in validation.failures:
        sys.stdout.write(f"FAILED {check.name}: {check.value} (limit {check.limit}) {check.detail}\n")
    sys.stdout.write(f"verdict: {validation.verdict}\n")


def rounds(made: tuple[Round, ...], layers: int) -> list[tuple[str, ...]]:
    return [
        (
            f"{layers - len(one.float_layers)} of {layers}", f"{100 * one.drop:.2f}", f"{100 * one.drop_high:.2f}",
            f"{one.sqnr_db:.1f}", "passed" if one.held else ", ".join(one.failures),
        )
        for one in made
    ]  # fmt: skip


def flips(validation: Validation, name: str) -> str:
    return str(validation.parities[name].flipped) if name in validation.parities else ""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options: dict[str, Any] = {
        "data": {"type": Path, "required": True}, "student": {"required": True},
        "init": {"default": "pretrained", "help": "pretrained, random or a .safetensors file"},
        "img-size": {"type": int, "default": 64}, "target": {"default": "x86-avx512"},
        "max-accuracy-drop": {"type": float, "default": 0.01}, "threads": {"type": int, "default": 2},
        "train": {"type": int, "default": 2000}, "val": {"type": int, "default": 2000},
        "test": {"type": int, "default": 2000}, "out": {"type": Path},
    }  # fmt: skip
    for name, settings in options.items():
        parser.add_argument(f"--{name}", **settings)
    return parser.parse_args()


if __name__ == "__main__":
    with terminal():
        sys.exit(main())
