"""Proof that the exported files are the trained model: on fresh exports, and on a run from earlier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from tcs_edge.data import ImageSet, Preprocess, load_images
from tcs_edge.data.loader import evaluation_loader
from tcs_edge.errors import DataError, ParityFailed
from tcs_edge.files import read_json, write_json
from tcs_edge.packaging.manifest import read_manifest, verify_files
from tcs_edge.packaging.run_folder import find_run
from tcs_edge.progress import Reporter
from tcs_edge.runtimes.base import Runner
from tcs_edge.runtimes.onnxruntime import OrtRunner
from tcs_edge.runtimes.openvino import OpenVinoRunner
from tcs_edge.runtimes.torch import TorchRunner
from tcs_edge.specs.config import CompressConfig
from tcs_edge.students.build import build_student
from tcs_edge.training.deployed import load_deployed
from tcs_edge.validation.validate import Validation, validate


def prove(
    model: nn.Module,
    exports: Path,
    images: ImageSet,
    preprocess: Preprocess,
    options: CompressConfig,
    reporter: Reporter,
) -> Validation:
    """Compare the files in `exports` with `model` on every test image; see `validation.validate`."""
    threads = options.threads or 1
    with ExitStack() as stack:
        runners = [stack.enter_context(runner) for runner in _runners(exports, threads)]
        batches = _test_batches(images, preprocess, options)
        return validate(TorchRunner(model), runners, batches, classes=images.classes, reporter=reporter)


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
    folder = find_run(run)
    manifest = read_manifest(folder.root)
    if manifest.verdict != "pass":
        raise ParityFailed(f"{run} failed its own validation; see {folder.validation}. Run compress again.")
    if problems := verify_files(folder.root, manifest):
        listed = ", ".join(f"{problem.path} ({problem.problem})" for problem in problems[:3])
        raise ParityFailed(f"{run} is not what was validated: {listed}. Run compress again.")
    options = CompressConfig.model_validate(manifest.options)
    images = load_images(data or options.data, options.seed, reporter)
    if images.fingerprint != manifest.dataset.fingerprint:
        raise DataError(f"these are not the images of {run}: the fingerprint differs. Pass --data DIR.")
    preprocess = Preprocess.from_json(read_json(folder.export / "preprocess.json", schema_version=1))
    student = build_student(manifest.student.name, manifest.student.img_size, "random", options.seed)
    model = load_deployed(folder.deployed_weights, student, manifest.student.img_size)
    validation = prove(model, folder.export, images, preprocess, options, reporter)
    if validation.verdict == "pass":
        return Revalidation(validation, None)
    write_json(folder.validation, validation.to_json())
    return Revalidation(validation, folder.revoke())


def _runners(exports: Path, threads: int) -> list[Runner]:
    """ONNX Runtime; OpenVINO at float32; and OpenVINO as it will run, where that is another precision."""
    xml = exports / "openvino" / "model.xml"
    runners: list[Runner] = [
        OrtRunner(exports / "model.onnx", threads),
        OpenVinoRunner(xml, threads, precision="f32"),
    ]
    as_deployed = OpenVinoRunner(xml, threads, precision="device")
    if as_deployed.precision != "f32":
        runners.append(as_deployed)
    return runners


def _test_batches(
    images: ImageSet, preprocess: Preprocess, options: CompressConfig
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    loader = evaluation_loader(images.test, preprocess, options.batch_size, options.workers or 0)
    for pixels, labels, _ in loader:
        yield pixels.numpy(), labels.numpy()
