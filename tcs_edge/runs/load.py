"""A finished run that may be used: its verdict is good, its files are what was proven, its images are at hand."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tcs_edge.data import ImageSet, Preprocess, load_images
from tcs_edge.errors import DataError, ParityFailed
from tcs_edge.runs.folder import RunFolder, find_run
from tcs_edge.runs.manifest import read_manifest, verify_files
from tcs_edge.runs.schema import Manifest
from tcs_edge.students.build import build_student
from tcs_edge.training.fold import load_deployed
from tcs_edge.utils.files import read_json


def proven_run(run: Path) -> tuple[RunFolder, Manifest]:
    """The folder and manifest of a run whose exports passed and have not changed since.

    Raises:
        ParityFailed: it failed its validation; or a file is missing, changed or new.
        DataError: no run.
    """
    folder = find_run(run)
    manifest = read_manifest(folder.root)
    if manifest.verdict != "pass":
        raise ParityFailed(f"{run} failed its own validation; see {folder.validation}. Run compress again.")
    if problems := verify_files(folder.root, manifest):
        listed = ", ".join(f"{problem.path} ({problem.problem})" for problem in problems[:3])
        raise ParityFailed(f"{run} is not what was validated: {listed}. Run compress again.")
    return folder, manifest


def images_of(run: Path, manifest: Manifest, data: Path | None) -> ImageSet:
    """The very images of a run.

    Args:
        data: where they lie now; None looks where the run found them.

    Raises:
        DataError: they are gone, or others than the run's.
    """
    recorded = manifest.options.get("data")
    images = load_images(data or (Path(recorded) if recorded else None), manifest.seed)
    if images.fingerprint != manifest.dataset.fingerprint:
        raise DataError(f"these are not the images of {run}: the fingerprint differs. Pass --data DIR.")
    return images


def preprocess_of(folder: RunFolder) -> Preprocess:
    """How the run's exported model wants its images.

    Raises:
        DataError, SpecError: preprocess.json is missing or damaged.
    """
    return Preprocess.from_json(read_json(folder.export / "preprocess.json", schema_version=1))


def trained_model(run: Path) -> nn.Module:
    """The trained, folded student of a finished run, on the CPU.

    Raises:
        DataError: no run, or weights that are damaged or not this student's.
    """
    folder = find_run(run)
    manifest = read_manifest(folder.root)
    student = build_student(manifest.student.name, manifest.student.img_size, "random", manifest.seed)
    return load_deployed(folder.deployed_weights, student, manifest.student.img_size)
