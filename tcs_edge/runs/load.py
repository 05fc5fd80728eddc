"""Load the images and the model of a finished run."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tcs_edge.data import ImageSet, Preprocess, load_images
from tcs_edge.data.find import is_at_hand
from tcs_edge.errors import DataError
from tcs_edge.runs.folder import RunFolder, find_run
from tcs_edge.runs.manifest import read_manifest
from tcs_edge.runs.origin import exclude_of_run, path_of_run, recorded_data
from tcs_edge.runs.schema import Manifest
from tcs_edge.students.build import build_student
from tcs_edge.students.embedding import with_embedding
from tcs_edge.training.fold import load_deployed
from tcs_edge.utils.reading import read_json


def images_of(run: Path, manifest: Manifest, data: Path | None) -> ImageSet:
    """Load the images of a run.

    Args:
        data: current folder of the images; None uses the recorded folder.

    Raises:
        DataError: the images are missing, or differ from the run's.
    """
    folder, options = data or recorded_data(run, manifest.options), manifest.options
    if folder is not None and not is_at_hand(folder):
        raise DataError(f"no image folder {folder}, as recorded in {run}. Pass --data DIR with its current place.")
    cache_dir = path_of_run(run, options["cache_dir"]) if options.get("cache_dir") else None
    columns = options.get("column") or ()
    exclude = exclude_of_run(run, options.get("exclude") or ())
    images = load_images(folder, manifest.seed, exclude, cache_dir, columns)
    if images.fingerprint != manifest.dataset.fingerprint:
        raise DataError(f"the images are not the images of {run}: the fingerprint differs. Pass --data DIR.")
    return images


def preprocess_of(folder: RunFolder) -> Preprocess:
    """Read the preprocessing of the run's exports.

    Raises:
        DataError, SpecError: preprocess.json is missing or damaged.
    """
    return Preprocess.from_json(read_json(folder.export / "preprocess.json", schema_version=1))


def trained_model(run: Path) -> nn.Module:
    """Load the trained, folded student of a finished run, on the CPU, with its embedding if the exports have one.

    Raises:
        DataError: not a run, or weights that are damaged or of another student.
    """
    folder = find_run(run)
    manifest = read_manifest(folder.root)
    student = build_student(manifest.student.name, manifest.student.img_size, "random", manifest.seed)
    model = load_deployed(folder.deployed_weights, student, manifest.student.img_size)
    return with_embedding(model, folder.coordinates_weights) if manifest.student.embedding else model
