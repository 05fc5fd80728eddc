"""Read and write manifest.json: inputs, options, results and the hash of every file of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from tcs_edge.errors import DataError
from tcs_edge.runs.folder import EXPORT, MANIFEST, MARKER, REJECTED, REJECTED_SUFFIX, REPORT, UNVALIDATED
from tcs_edge.runs.metrics import ConfidenceRecord, MetricsRecord
from tcs_edge.runs.schema import (
    AccuracyLossRecord,
    AccuracyRecord,
    ArtifactRecord,
    DatasetRecord,
    EmbeddingParityRecord,
    LatencyHere,
    Manifest,
    ManifestFile,
    ParityRecord,
    StageRecord,
    StudentRecord,
    TeacherRecord,
)
from tcs_edge.specs.artifacts import BESIDE, PRECISIONS, litert_file, ncnn_file, onnx_file, openvino_file, pixels_file
from tcs_edge.specs.strict import format_error
from tcs_edge.utils.files import FileRecord, is_draft, record_files, sha256_file, write_json
from tcs_edge.utils.lock import FOLDER_LOCK
from tcs_edge.utils.reading import LFS_ADVICE, is_file, is_lfs_pointer, read_json
from tcs_edge.utils.versions import library_versions

if TYPE_CHECKING:
    from tcs_edge.validation.parity import Parity
    from tcs_edge.validation.validate import Validation

SCHEMA_VERSION = 1
NOT_RECORDED = (MANIFEST, MARKER, REPORT, FOLDER_LOCK)
RUN_AGAIN = "The file was changed, or another version wrote it. Run compress again."

RUN_AGAIN_ADVICE = "Run compress again."
CRLF_ADVICE = (
    "Git changed line ends (core.autocrlf). Put the line `* -text` into a .gitattributes file in the run's folder, "
    "then check the run out again."
)
MOST_TEXT_BYTES = 128 * 2**20  # larger files are not read whole


@dataclass(frozen=True)
class FileProblem:
    """File that differs from the manifest."""

    path: str
    problem: Literal[
        "missing",
        "changed",
        "CRLF line ends",
        "a Git LFS pointer",
        "not in the manifest",
        "a symbolic link",
        "unreadable",
    ]


def build_manifest(
    root: Path,
    *,
    created: datetime,
    seed: int,
    dataset: DatasetRecord,
    teacher: TeacherRecord | None,
    student: StudentRecord,
    target: Mapping[str, Any],
    options: Mapping[str, Any],
    stages: Iterable[StageRecord],
    validation: Validation,
    latency_here: LatencyHere | None = None,
    int8_losses: Mapping[str, AccuracyLossRecord] | None = None,
) -> Manifest:
    """Describe the files of the run in `root`; call it after everything else is written.

    Args:
        int8_losses: per format, "onnx" or "openvino".
    """
    files = record_files(root, _recordable(root))
    return Manifest(
        created=created,
        versions=library_versions(options.get("format", ())),
        seed=seed,
        dataset=dataset,
        teacher=teacher,
        student=student,
        target=dict(target),
        options=dict(options),
        stages=tuple(stages),
        accuracy={name: AccuracyRecord(**a.to_json()) for name, a in validation.accuracies.items()},
        parity=_parity_records(validation),
        verdict=validation.verdict,
        files=tuple(ManifestFile(**record.to_json()) for record in files),
        export_mb=_export_bytes(files) / 1e6,
        artifacts=_artifacts(files, int8_losses or {}),
        latency_here=latency_here,
        metrics={name: MetricsRecord.model_validate(m.to_json()) for name, m in validation.metrics.items()},
        confidence=_confidence_record(validation),
    )


def with_files(manifest: Manifest, root: Path, paths: Iterable[Path]) -> Manifest:
    """Return the manifest with new records of these files."""
    added = {record.path: ManifestFile(**record.to_json()) for record in record_files(root, paths)}
    kept = {record.path: record for record in manifest.files}
    files = sorted((kept | added).values(), key=lambda record: record.path)
    return manifest.replaced(files=tuple(files))


def exported_files(manifest: Manifest) -> tuple[ManifestFile, ...]:
    """Return the files of the export folder, under any of its names."""
    return tuple(record for record in manifest.files if _is_export(record.path))


def write_manifest(root: Path, manifest: Manifest) -> Path:
    """Write manifest.json into the run folder, whole or not at all; return its path."""
    path = root / MANIFEST
    write_json(path, manifest.model_dump(mode="json"))
    return path


def read_manifest(root: Path) -> Manifest:
    """Read a run's manifest.json.

    Raises:
        DataError: missing, not JSON, another schema version, or a violation of the schema.
    """
    path = root / MANIFEST
    return parse_manifest(read_json(path, SCHEMA_VERSION), str(path))


def parse_manifest(document: Mapping[str, Any], origin: str) -> Manifest:
    """Parse the manifest in a JSON document; `origin` names the source in messages.

    Raises:
        DataError: a violation of the schema.
    """
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        raise DataError(f"{origin}: {format_error(error, Manifest, RUN_AGAIN)}") from None


def verify_files(root: Path, manifest: Manifest) -> tuple[FileProblem, ...]:
    """Return the changed, missing, linked and unlisted files of a run; empty without problems.

    A recorded file must be inside the run folder itself. A symbolic link could point to another file later.
    """
    known = {record.path for record in manifest.files}
    problems = [problem for record in manifest.files if (problem := _problem(root, record)) is not None]
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if name not in known and _is_export(name) and (path.is_symlink() or not path.is_dir()):
            problems.append(FileProblem(name, "not in the manifest"))
    return tuple(sorted(problems, key=lambda problem: problem.path))


def advice_on(problems: Iterable[FileProblem], otherwise: str = RUN_AGAIN_ADVICE) -> str:
    """Return the fix for changed files, with the likely cause of changed line ends."""
    found = {problem.problem for problem in problems}
    if "a Git LFS pointer" in found:
        return LFS_ADVICE
    return CRLF_ADVICE if "CRLF line ends" in found else otherwise


def verify_exports(root: Path, manifest: Manifest, names: Iterable[str]) -> tuple[FileProblem, ...]:
    """Return the changed, missing, linked and unlisted ones among files of the export folder."""
    records = {record.path: record for record in manifest.files}
    paths = [f"{EXPORT}/{name}" for name in names]
    unlisted = [FileProblem(path, "not in the manifest") for path in paths if path not in records]
    found = (_problem(root, records[path]) for path in paths if path in records)
    return (*unlisted, *(problem for problem in found if problem is not None))


def _problem(root: Path, record: ManifestFile) -> FileProblem | None:
    path = root / record.path
    if not is_file(path):
        return FileProblem(record.path, "missing")
    folders = (root / folder for folder in PurePosixPath(record.path).parents if folder.parts)
    if path.is_symlink() or any(folder.is_symlink() for folder in folders):
        return FileProblem(record.path, "a symbolic link")
    try:
        if path.stat().st_size == record.bytes and sha256_file(path) == record.sha256:
            return None
        if is_lfs_pointer(path):
            return FileProblem(record.path, "a Git LFS pointer")
        return FileProblem(record.path, "CRLF line ends" if _is_crlf_copy(path, record) else "changed")
    except OSError:
        return FileProblem(record.path, "unreadable")


def _is_crlf_copy(path: Path, record: ManifestFile) -> bool:
    """Return True if the file equals the recorded one once CRLF is LF again."""
    if not record.bytes < path.stat().st_size <= MOST_TEXT_BYTES:
        return False
    with path.open("rb") as handle:
        content = handle.read(MOST_TEXT_BYTES + 1)
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() == record.sha256


def _recordable(root: Path) -> list[Path]:
    paths = (path for path in root.rglob("*") if path.is_file() and not is_draft(path.name))
    return sorted(path for path in paths if path.relative_to(root).as_posix() not in NOT_RECORDED)


def _is_export(path: str) -> bool:
    return PurePosixPath(path).parts[0] in (EXPORT, REJECTED, UNVALIDATED)


def _export_bytes(files: Iterable[FileRecord]) -> int:
    return sum(record.bytes for record in files if _is_export(record.path))


def _artifacts(files: Iterable[FileRecord], losses: Mapping[str, AccuracyLossRecord]) -> tuple[ArtifactRecord, ...]:
    """Return the model files among `files`, in the order of their precisions."""
    sizes = {record.path.removesuffix(REJECTED_SUFFIX): record for record in files if _is_export(record.path)}
    found = []
    for folder in (EXPORT, REJECTED):
        for precision in PRECISIONS:
            onnx, pixels, xml = (f"{folder}/{make(precision)}" for make in (onnx_file, pixels_file, openvino_file))
            lost = losses if precision == "int8" else {}
            found += [
                _artifact(sizes, onnx, format="onnx", precision=precision, loss=lost.get("onnx")),
                _artifact(sizes, pixels, format="onnx", precision=precision, input="picture", loss=lost.get("onnx")),
                _artifact(sizes, xml, format="openvino", precision=precision, loss=lost.get("openvino")),
                _artifact(sizes, f"{folder}/{ncnn_file(precision)}", format="ncnn", precision=precision),
                _artifact(sizes, f"{folder}/{litert_file(precision)}", format="litert", precision=precision),
            ]
    return tuple(record for record in found if record is not None)


def _artifact(sizes: Mapping[str, FileRecord], path: str, **facts: Any) -> ArtifactRecord | None:
    if path not in sizes:
        return None
    pure = PurePosixPath(path)
    beside = (str(pure.with_suffix(suffix)) for suffix in BESIDE.get(pure.suffix, ()))
    total = sizes[path].bytes + sum(sizes[other].bytes for other in beside if other in sizes)
    return ArtifactRecord(path=sizes[path].path, bytes=total, **facts)


def _confidence_record(validation: Validation) -> ConfidenceRecord | None:
    found = validation.confidence
    return ConfidenceRecord.model_validate(found.to_json()) if found else None


def _parity_records(validation: Validation) -> dict[str, ParityRecord]:
    wanted = ("max_abs_diff", "max_rel_diff", "top1_agreement", "finite")
    records = {}
    for name, parity in validation.parities.items():
        document = parity.to_json()
        values = {key: document[key] for key in wanted}
        records[name] = ParityRecord(
            precision=validation.precisions[name],
            judged=name not in validation.only_here,
            embedding=_embedding_parity(validation.embeddings.get(name)),
            **values,
        )
    return records


def _embedding_parity(parity: Parity | None) -> EmbeddingParityRecord | None:
    if parity is None:
        return None
    document = parity.to_json()
    wanted = ("max_abs_diff", "max_rel_diff", "sqnr_db", "finite")
    return EmbeddingParityRecord(**{key: document[key] for key in wanted})
