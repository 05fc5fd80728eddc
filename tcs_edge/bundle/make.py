"""Make the folder for a device: model, labels, preprocessing, scripts, and golden outputs to check them.

The scripts need Python, numpy, Pillow and one runtime, but no code of tcs-edge.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tcs_edge.bundle.contents import ABOUT, KIND, SUMS
from tcs_edge.bundle.golden import write_golden
from tcs_edge.bundle.known_classes import write_known_classes
from tcs_edge.bundle.text import license_notes, pinned_packages, readme_text, requirements_text
from tcs_edge.errors import DataError, UsageError
from tcs_edge.runs.bom import bom_text, build_bom
from tcs_edge.runs.device_file import DeviceFile, device_file
from tcs_edge.runs.folder import BOM, MODEL_CARD, RunFolder
from tcs_edge.runs.load import images_of, preprocess_of
from tcs_edge.runs.schema import Manifest
from tcs_edge.runs.validated import validated_run
from tcs_edge.runtimes.base import Runner
from tcs_edge.runtimes.registry import RUNTIMES
from tcs_edge.specs.artifacts import SIDECARS
from tcs_edge.utils.files import FileRecord, atomic_folder, record_files, restore_folder, write_json, write_text
from tcs_edge.utils.lock import owned_file
from tcs_edge.utils.progress import busy
from tcs_edge.utils.reading import read_json
from tcs_edge.validation.checks import TOLERANCES

SCHEMA_VERSION = 1
SCRIPTS = Path(__file__).parent / "device_files"


@dataclass(frozen=True)
class Bundle:
    """A finished bundle: its folder, its runtime and its files."""

    folder: Path
    runtime: str
    files: tuple[FileRecord, ...]

    @property
    def size_mb(self) -> float:
        """Size of all files in 10^6 bytes."""
        return sum(record.bytes for record in self.files) / 1e6

    def to_json(self) -> dict[str, Any]:
        """Return the bundle as a JSON document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "bundle": str(self.folder),
            "runtime": self.runtime,
            "size_mb": self.size_mb,
            "files": [record.to_json() for record in self.files],
        }


def make_bundle(
    run: Path,
    out: Path | None = None,
    runtime: str | None = None,
    precision: str | None = None,
    data: Path | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write all files for a device into one folder, whole or not at all.

    Args:
        run: a finished run that passed validation.
        out: the new folder; None uses `<run>-bundle` beside the run.
        runtime, precision: see `runs.device_file.device_file`.
        data: current folder of the run's images; None uses the recorded folder.
        overwrite: replace an earlier bundle in `out`.

    Raises:
        ParityFailed: the run failed validation, or its files changed after it.
        UsageError: an unknown runtime, a precision that the run lacks, or an `out` that is not empty.
        DataError: not a run, or images that differ from the run's.
        InUse: another process writes `out`.
    """
    folder, manifest = validated_run(run)
    chosen = device_file(manifest, runtime, precision)
    out = out or folder.root.with_name(f"{folder.root.resolve().name}-bundle")
    _require_free(out, overwrite)
    images = images_of(run, manifest, data)
    place = out.resolve()
    with owned_file(place):
        restore_folder(place)
        _require_free(out, overwrite)
        with atomic_folder(place) as draft:
            _copy(folder, chosen, draft)
            with busy("computing the golden outputs"), _runner(draft, chosen) as runner:
                preprocess = preprocess_of(folder)
                write_golden(draft / "golden.npz", images.test, preprocess, runner)
                if runner.embedding_size:
                    hashes = [record.sha256 for record in chosen.files]
                    write_known_classes(draft, images, preprocess, runner, hashes)
            files = _describe(draft, manifest, chosen)
    return Bundle(out, chosen.runtime, files)


def _require_free(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file. Choose another --out.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{out} is not empty. Choose another --out, or pass --overwrite to replace a bundle.")
    if not _is_bundle(out):
        raise UsageError(f"{out} is not a bundle: it has no {ABOUT}. Choose another --out.")


def _is_bundle(folder: Path) -> bool:
    try:
        return read_json(folder / ABOUT, SCHEMA_VERSION).get("kind") == KIND
    except DataError:
        return False


def _copy(folder: RunFolder, model: DeviceFile, draft: Path) -> None:
    for record in model.files:
        shutil.copyfile(folder.root / record.path, draft / PurePosixPath(record.path).name)
    for name in SIDECARS:
        shutil.copyfile(folder.export / name, draft / name)
    if not folder.model_card.is_file():
        raise DataError(f"{folder.root} has no {MODEL_CARD}. An earlier version wrote the run. Run compress again.")
    shutil.copyfile(folder.model_card, draft / "MODEL_CARD.md")
    for script in sorted((*SCRIPTS.glob("*.py"), *SCRIPTS.glob("*.service"))):
        shutil.copyfile(script, draft / script.name)


def _runner(draft: Path, model: DeviceFile) -> Runner:
    return RUNTIMES[model.runtime].open(draft / PurePosixPath(model.name).name, 1)


def _describe(draft: Path, manifest: Manifest, model: DeviceFile) -> tuple[FileRecord, ...]:
    """Write bundle.json, the texts and the bill of materials, then the hashes of all files."""
    packages = pinned_packages(manifest, model.runtime)
    write_json(draft / ABOUT, _about(manifest, model))
    write_text(draft / "requirements.txt", requirements_text(packages))
    write_text(draft / "LICENSES.md", license_notes(manifest))
    write_text(draft / "README.md", readme_text(manifest, model.runtime, packages))
    files = record_files(draft, draft.iterdir())
    write_text(draft / BOM, bom_text(build_bom(manifest, files, dict(packages))))
    files = record_files(draft, draft.iterdir())
    write_text(draft / SUMS, "".join(f"{record.sha256}  {record.path}\n" for record in files))
    return tuple(record_files(draft, draft.iterdir()))


def _about(manifest: Manifest, model: DeviceFile) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "created": manifest.created.isoformat(),
        "student": manifest.student.name,
        "target": manifest.target.get("name"),
        "runtime": model.runtime,
        "precision": model.precision,
        "threads": manifest.target.get("threads", 1),
        "img_size": manifest.student.img_size,
        "model": PurePosixPath(model.name).name,
        "model_sha256": [record.sha256 for record in model.files],
        "max_rel_diff": {name: tolerance.max_rel_diff for name, tolerance in TOLERANCES.items()},
        **({"embedding_size": manifest.student.embedding.size} if manifest.student.embedding else {}),
    }
