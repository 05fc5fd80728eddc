"""Proof that the exported files are the trained model: on fresh exports, and on a run from earlier."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from tcs_edge.artifact import artifact_checks, is_released
from tcs_edge.data import ImageSet, Preprocess, Split
from tcs_edge.data.loader import evaluation_loader
from tcs_edge.errors import DataError
from tcs_edge.files import write_json
from tcs_edge.packaging.manifest import read_manifest
from tcs_edge.packaging.proven import images_of, preprocess_of, proven_run
from tcs_edge.packaging.run_folder import find_run
from tcs_edge.pictures import picture_checks
from tcs_edge.progress import Reporter
from tcs_edge.runtimes.base import RefusedRunner, Runner
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.rounding import open_rounding
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.specs.artifacts import onnx_file, openvino_file, pixels_file, runner_name
from tcs_edge.specs.config import CompressConfig
from tcs_edge.students.build import build_student
from tcs_edge.training.deployed import load_deployed
from tcs_edge.validation.validate import Validation, validate

OpenVinoArithmetic = Literal["f32", "f16", "bf16"]


def prove(
    model: nn.Module,
    exports: Path,
    images: ImageSet,
    preprocess: Preprocess,
    options: CompressConfig,
    reporter: Reporter,
    max_opset: int | None = None,
    at_device_precision: bool = True,
    arithmetic: OpenVinoArithmetic = "f32",
) -> Validation:
    """Compare the files in `exports` with `model` on every test image; see `validation.validate`.

    Args:
        max_opset: the highest ONNX opset that the target's runtime takes; None for any.
        at_device_precision: prove the precision too that OpenVINO takes by itself; says little of a
            network that was not trained.
        arithmetic: what OpenVINO computes in on the target.
    """
    reference = TorchRunner(model)
    with ExitStack() as stack:
        opened = opened_runners(exports, options, at_device_precision)
        opened += opened_target_runners(exports, options, arithmetic, {runner.precision for runner in opened})
        runners = [stack.enter_context(runner) for runner in opened]
        batches = image_batches(images.test, preprocess, options.batch_size, options.workers or 0)
        validation = validate(
            reference, runners, batches,
            classes=images.classes, names=images.test.names, max_int8_drop=options.max_drop, reporter=reporter,
        )  # fmt: skip
    precisions = options.precision or ("fp32",)
    checks = artifact_checks(exports, images.classes, preprocess.to_json(), max_opset, precisions)
    for precision in precisions if options.embed_preprocess else ():
        if is_released(exports / onnx_file(precision), precision):
            path = exports / pixels_file(precision)
            checks += picture_checks(
                reference, path, images.test, preprocess, images.classes, options.max_drop, reporter
            )
    return replace(validation, checks=(*checks, *validation.checks))


@dataclass(frozen=True)
class Revalidation:
    """A run proved again; `revoked` says where its exports went if they failed."""

    validation: Validation
    revoked: Path | None


def revalidate(run: Path, data: Path | None, reporter: Reporter) -> Revalidation:
    """Prove a finished run again: its files' hashes first, then the models on the test images.

    Args:
        data: where the images lie now; None looks where the run found them.

    Raises:
        ParityFailed: a file is missing, changed or new; or the run failed its own validation.
        DataError: no run, or other images than the run's.
    """
    folder, manifest = proven_run(run)
    options = CompressConfig.model_validate(manifest.options)
    images = images_of(run, manifest, data, reporter)
    preprocess = preprocess_of(folder)
    model = trained_model(run)
    validation = prove(
        model, folder.export, images, preprocess, options, reporter,
        opset_limit(manifest.target), arithmetic=openvino_arithmetic(manifest.target),
    )  # fmt: skip
    if validation.verdict == "pass":
        return Revalidation(validation, None)
    write_json(folder.validation, validation.to_json())
    return Revalidation(validation, folder.revoke())


def trained_model(run: Path) -> nn.Module:
    """The trained, folded student of a finished run, on the CPU.

    Raises:
        DataError: no run, or weights that are damaged or not this student's.
    """
    folder = find_run(run)
    manifest = read_manifest(folder.root)
    student = build_student(manifest.student.name, manifest.student.img_size, "random", manifest.seed)
    return load_deployed(folder.deployed_weights, student, manifest.student.img_size)


def opset_limit(target: Mapping[str, Any]) -> int | None:
    """The highest opset that a target's onnxruntime takes, from the target as a manifest holds it."""
    limit = target.get("runtimes", {}).get("onnxruntime", {}).get("max_opset")
    return limit if isinstance(limit, int) else None


def openvino_arithmetic(target: Mapping[str, Any]) -> OpenVinoArithmetic:
    """What OpenVINO computes in by itself on a target, as a manifest holds it.

    It takes float16 on Arm processors that have such arithmetic, and bfloat16 on x86 with matrix units
    (OpenVINO documentation, CPU device, inference precision).
    """
    cpu = target.get("cpu", {})
    if "openvino" not in target.get("runtimes", {}):
        return "f32"
    if str(cpu.get("isa", "")).startswith("arm"):
        return "f16" if cpu.get("fp16_arithmetic") else "f32"
    return "bf16" if cpu.get("amx") else "f32"


def opened_target_runners(
    exports: Path, options: CompressConfig, arithmetic: OpenVinoArithmetic, proved: Collection[str]
) -> list[Runner]:
    """The float files as OpenVINO computes them on the target, by rounding; none where that is among those `proved`.

    int8 is left out: its own rounding is the coarser one by far.
    """
    if arithmetic == "f32" or arithmetic in proved:
        return []
    runners: list[Runner] = []
    for precision in options.precision or ("fp32",):
        if precision != "int8":
            name = f"{runner_name('openvino', precision)}-{arithmetic}"
            make = partial(open_rounding, exports / onnx_file(precision), arithmetic, name, options.threads or 1)
            runners.append(_opened(name, make))
    return runners


def opened_runners(exports: Path, options: CompressConfig, at_device_precision: bool = True) -> list[Runner]:
    """Every file in `exports`: ONNX Runtime, OpenVINO at float32, and OpenVINO as it runs where that is different."""
    threads = options.threads or 1
    runners: list[Runner] = []
    for precision in options.precision or ("fp32",):
        onnx_path, xml_path = exports / onnx_file(precision), exports / openvino_file(precision)
        if is_released(onnx_path, precision):
            name = runner_name("onnxruntime", precision)
            runners.append(_opened(name, partial(OrtRunner, onnx_path, threads)))
        if is_released(xml_path, precision):
            name = runner_name("openvino", precision)
            runners.append(_opened(name, partial(OpenVinoRunner, xml_path, threads, precision="f32")))
            runners += opened_device_runner(xml_path, threads, f"{name}-device") if at_device_precision else []
    return runners


def opened_device_runner(path: Path, threads: int, name: str = "openvino-device") -> list[Runner]:
    """OpenVINO as it will run the model on a device; nothing where that is float32 again."""
    try:
        runner = OpenVinoRunner(path, threads, precision="device")
    except DataError as error:
        return [RefusedRunner(name, str(error))]
    return [] if runner.arithmetic == "f32" else [runner]


def _opened(name: str, make: Callable[[], Runner]) -> Runner:
    """A runner, or one that fails its checks where the runtime would not load the file."""
    try:
        return make()
    except DataError as error:
        return RefusedRunner(name, str(error))


def image_batches(
    split: Split, preprocess: Preprocess, batch_size: int, workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images of `split` as a model sees them, float32 (B, 3, S, S), with their labels int (B,)."""
    for pixels, labels, _ in evaluation_loader(split, preprocess, batch_size, workers):
        yield pixels.numpy(), labels.numpy()
