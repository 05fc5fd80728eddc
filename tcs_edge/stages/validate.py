"""Validate exported files against the trained model, for new exports and for earlier runs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from tcs_edge.data import ImageSet, Preprocess
from tcs_edge.data.loader import image_batches
from tcs_edge.runs.folder import MANIFEST, RunFolder, find_run
from tcs_edge.runs.load import images_of, preprocess_of, trained_model
from tcs_edge.runs.place import RunOwner
from tcs_edge.runs.validated import validated_run
from tcs_edge.runtimes.open import only_here, opened_runners, opened_target_runners
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.specs.artifacts import CONFIDENCE_FILE, is_released, onnx_file, pixels_file
from tcs_edge.specs.confidence import Confidence, read_confidence
from tcs_edge.specs.config import ResolvedConfig
from tcs_edge.specs.options import LimitOptions
from tcs_edge.specs.strict import validated
from tcs_edge.specs.target import (
    NcnnArithmetic,
    OpenVinoArithmetic,
    ncnn_arithmetic,
    openvino_arithmetic,
    opset_limit,
)
from tcs_edge.stages.validate_metadata import confidence_check, metadata_checks
from tcs_edge.stages.validate_pixels import pixels_checks
from tcs_edge.utils.files import write_json
from tcs_edge.validation.checks import chance_check, least_accuracy_check
from tcs_edge.validation.quality import metric_checks
from tcs_edge.validation.validate import Validation, validate


def validate_exports(
    model: nn.Module,
    exports: Path,
    images: ImageSet,
    preprocess: Preprocess,
    options: ResolvedConfig,
    max_opset: int | None = None,
    at_device_precision: bool = True,
    arithmetic: OpenVinoArithmetic = "f32",
    confidence: Confidence | None = None,
    ncnn: NcnnArithmetic = "f16-weights",
) -> Validation:
    """Compare the files in `exports` with `model` on every test image; see `validation.validate`.

    Args:
        max_opset: highest ONNX opset of the target's runtime; None for any.
        at_device_precision: also run in the arithmetic that a runtime chooses on this machine. The results mean
            little for an untrained network.
        arithmetic: arithmetic that OpenVINO chooses on the target. Results in another arithmetic of this machine
            have no checks.
        confidence: temperature and threshold of the model, which confidence.json must hold; None leaves them out.
        ncnn: arithmetic that ncnn chooses on the target, for exports in its format.
    """
    reference = TorchRunner(model)
    formats, on_ncnn = options.format, ncnn if "ncnn" in options.format and at_device_precision else None
    with ExitStack() as stack:
        opened = opened_runners(exports, options.precision, options.threads, at_device_precision, formats)
        precisions = {runner.precision for runner in opened}
        opened += opened_target_runners(exports, options.precision, options.threads, arithmetic, precisions, on_ncnn)
        runners = [stack.enter_context(runner) for runner in opened]
        batches = image_batches(images.test, preprocess, options.batch_size, options.workers)
        validation = validate(
            reference, runners, batches,
            classes=images.classes, names=images.test.names, max_int8_drop=options.max_accuracy_drop,
            only_here=only_here(runners, arithmetic, on_ncnn), confidence=confidence,
        )  # fmt: skip
    checks = metadata_checks(exports, images.classes, preprocess.to_json(), max_opset, options.precision, formats)
    if confidence:
        checks.append(confidence_check(exports / CONFIDENCE_FILE, confidence))
    for precision in options.precision if options.embed_preprocess else ():
        if is_released(exports / onnx_file(precision), precision):
            path = exports / pixels_file(precision)
            checks += pixels_checks(reference, path, images.test, preprocess, images.classes, options.max_accuracy_drop)
    return replace(validation, checks=(*checks, *validation.checks))


def with_quality_checks(validation: Validation, limits: LimitOptions) -> Validation:
    """Return the validation with checks of the trained model: better than chance, and within `limits`."""
    accuracy = validation.accuracies[TorchRunner.name]
    checks = [chance_check(accuracy, validation.chance(TorchRunner.name))]
    if limits.min_accuracy is not None:
        checks.append(least_accuracy_check(accuracy, limits.min_accuracy))
    checks += metric_checks(validation.metrics[TorchRunner.name], validation.class_names, limits)
    return replace(validation, checks=(*validation.checks, *checks))


@dataclass(frozen=True)
class Revalidation:
    """Result of validating a run again; `revoked` is the new folder of its exports if they were revoked."""

    validation: Validation
    revoked: Path | None


def revalidate(run: Path, data: Path | None, revoke: bool = False) -> Revalidation:
    """Validate a finished run again: first its files' hashes, then the models on the test images.

    Args:
        data: current folder of the images; None uses the recorded folder.
        revoke: rename exports that fail. Otherwise no file changes.

    Raises:
        ParityFailed: a file is missing, changed or new, or the run failed its own validation.
        DataError: not a run, or images that differ from the run's.
        InUse: with `revoke`, another process writes the run.
    """
    with RunOwner() as owner:
        if revoke:
            owner.own(find_run(run).root)
            RunFolder(run).complete_rejection()
        return _revalidated(run, data, revoke)


def _revalidated(run: Path, data: Path | None, revoke: bool) -> Revalidation:
    folder, manifest = validated_run(run)
    options = validated(ResolvedConfig, manifest.options, folder.root / MANIFEST)
    images = images_of(run, manifest, data)
    preprocess = preprocess_of(folder)
    model = trained_model(run)
    validation = validate_exports(
        model,
        folder.export,
        images,
        preprocess,
        options,
        opset_limit(manifest.target),
        arithmetic=openvino_arithmetic(manifest.target),
        confidence=read_confidence(folder.export / CONFIDENCE_FILE),
        ncnn=ncnn_arithmetic(manifest.target),
    )
    validation = with_quality_checks(validation, options)
    if validation.verdict == "pass" or not revoke:
        return Revalidation(validation, None)
    rejected = folder.revoke()  # first: after a kill in between, nothing is left to deploy
    write_json(folder.validation, validation.to_json())
    return Revalidation(validation, rejected)
