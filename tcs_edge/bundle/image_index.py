"""Index images by the embedding of a run's model, and find like ones; the bundle's similar.py reads the same file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tcs_edge.bundle.programs import device_module
from tcs_edge.data.inputs import image_files
from tcs_edge.errors import DataError, MissingError, UsageError, reason_of
from tcs_edge.runs.classifier import Classifier, Unread, load_classifier
from tcs_edge.runs.device_file import DeviceFile, device_file
from tcs_edge.runs.folder import find_run
from tcs_edge.runs.manifest import exported_files, read_manifest
from tcs_edge.runs.schema import Manifest
from tcs_edge.runtimes.registry import RUNTIMES
from tcs_edge.specs.artifacts import PRECISIONS
from tcs_edge.utils.progress import track

NO_EMBEDDING = "has no embedding. Run compress again, with --with-embedding."


@dataclass(frozen=True)
class Indexed:
    """A finished index: its file, model and number of images, and the images that cannot be read."""

    file: Path
    model: str
    images: int
    failed: tuple[Unread, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        failed = [one.to_json() for one in self.failed]
        facts = {"index": str(self.file), "model": self.model, "images": self.images}
        return {"schema_version": 1, **facts, "failed": failed}


@dataclass(frozen=True)
class Like:
    """One image of an index, and its cosine to the image asked for, in -1..1."""

    image: str
    score: float


@dataclass(frozen=True)
class Similar:
    """An image, and the images of an index that are like it, the nearest first."""

    image: str
    similar: tuple[Like, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def index_images(
    run: Path, folder: Path, out: Path, runtime: str | None = None, precision: str | None = None
) -> Indexed:
    """Write the embeddings of all images in `folder` into one file, whole or not at all.

    Args:
        run: a finished run with an embedding.
        folder: of images; their names in the index are relative to it.
        runtime, precision: of the model, as `bundle` selects it; so the index fits the bundle.

    Raises:
        UsageError: the run has no embedding, or `out` is a folder.
        ParityFailed, DataError: not a validated run, or no image of the folder can be read.
        MissingError: `folder` is missing, or `out` cannot be written.
    """
    manifest = _with_embedding(run)
    if out.is_dir():
        raise UsageError(f"{out} is a folder. Pass --out FILE.")
    if not folder.is_dir():
        raise MissingError(f"no such folder: {folder}. Pass --data DIR.")
    chosen = device_file(manifest, runtime, precision)
    names, rows, failed = [], [], []
    with load_classifier(run, chosen.name) as classifier:
        files = image_files(folder)
        for file in track(files, "indexing images", total=len(files)):
            found = _embedding_or_reason(classifier, file)
            if isinstance(found, Unread):
                failed.append(found)
            else:
                names.append(os.fsdecode(file.relative_to(folder).as_posix()))
                rows.append(found)
    if not names:
        raise DataError(f"none of the {len(failed)} images in {folder} can be read, such as {failed[0].image}.")
    try:
        device_module("edge_index").write_index(out, names, np.stack(rows), _hashes(chosen))
    except OSError as error:
        raise MissingError(f"{out} cannot be written: {reason_of(error)}. Pass another --out.") from None
    return Indexed(out, chosen.name, len(names), tuple(failed))


def similar_images(run: Path, index: Path, paths: Iterable[Path], top: int = 5) -> Iterator[Similar | Unread]:
    """Yield, for files and all images in folders, the `top` nearest images of an index.

    Raises:
        UsageError: the run has no embedding, or another model made the index.
        ParityFailed, DataError: not a validated run, or a damaged index.
        MissingError: no such index.
    """
    manifest = _with_embedding(run)
    edge_index = device_module("edge_index")
    try:
        found = edge_index.read_index(index)
    except FileNotFoundError:
        raise MissingError(f"no such file: {index}. Write it with tcs-edge index.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{index}: {reason_of(error)}. Write it again with tcs-edge index.") from None
    chosen = _model_of(manifest, found.model_sha256)
    if chosen is None:
        raise UsageError(f"{index} is an index of another model than those of {run}. Write it again: tcs-edge index.")
    with load_classifier(run, chosen.name) as classifier:
        if found.embeddings.shape[1] != classifier.embedding_size:
            sizes = f"{found.embeddings.shape[1]} values per image, the model {classifier.embedding_size}"
            raise DataError(f"{index} has {sizes}. Write it again with tcs-edge index.")
        for path in paths:
            try:
                files = image_files(path)
            except DataError as error:
                yield Unread(str(path), str(error))
                continue
            for file in files:
                embedding = _embedding_or_reason(classifier, file)
                if isinstance(embedding, Unread):
                    yield embedding
                    continue
                nearest = found.nearest(embedding, top)
                yield Similar(str(file), tuple(Like(name, score) for name, score in nearest))


def _with_embedding(run: Path) -> Manifest:
    manifest = read_manifest(find_run(run).root)
    if manifest.student.embedding is None:
        raise UsageError(f"{run} {NO_EMBEDDING}")
    return manifest


def _embedding_or_reason(classifier: Classifier, file: Path) -> np.ndarray | Unread:
    try:
        return np.asarray(classifier.embeddings(file)[0])
    except DataError as error:
        return Unread(str(file), str(error))


def _hashes(model: DeviceFile) -> list[str]:
    return [record.sha256 for record in model.files]


def _model_of(manifest: Manifest, hashes: tuple[str, ...]) -> DeviceFile | None:
    """Return the model of a run whose files have these hashes, sorted; None if it has no such model."""
    recorded = {record.sha256 for record in exported_files(manifest)}
    if not set(hashes) <= recorded:
        return None
    for runtime in RUNTIMES:
        for precision in PRECISIONS:
            try:
                model = device_file(manifest, runtime, precision)
            except UsageError:
                continue
            if tuple(sorted(_hashes(model))) == hashes:
                return model
    return None
