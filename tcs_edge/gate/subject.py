"""Read the model to judge: a run folder, a manifest or a bare model file, without any runtime."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tcs_edge.errors import DataError, UsageError
from tcs_edge.gate.measures import Measure, manifest_measures, target_isa
from tcs_edge.runs.folder import EXPORT, MANIFEST, MARKER, REJECTED, REJECTED_SUFFIX, UNVALIDATED, find_run
from tcs_edge.runs.manifest import (
    SCHEMA_VERSION,
    FileProblem,
    advice_on,
    exported_files,
    parse_manifest,
    verify_files,
)  # fmt: skip
from tcs_edge.runs.schema import Manifest
from tcs_edge.specs.artifacts import (
    BESIDE,
    PRECISIONS,
    SIDECARS,
    litert_file,
    ncnn_file,
    onnx_file,
    openvino_file,
    runner_name,
)
from tcs_edge.specs.strict import short
from tcs_edge.utils.files import sha256_file
from tcs_edge.utils.reading import parse_json, read_regular

# Runtime and precision in which a run compares each of its model files.
RUNNERS = {
    f"{EXPORT}/{file(precision)}": runner_name(runtime, precision)
    for runtime, file in (
        ("onnxruntime", onnx_file),
        ("openvino", openvino_file),
        ("ncnn", ncnn_file),
        ("litert", litert_file),
    )
    for precision in PRECISIONS
}
SHOWN_PROBLEMS = 3
WHAT_TO_PASS = "Pass a run folder, its manifest.json, or an .onnx, .xml, .param or .tflite file."


@dataclass(frozen=True)
class Requirement:
    """Requirement without a number; `detail` is the finding."""

    name: str
    kept: bool
    detail: str = ""


@dataclass(frozen=True)
class Subject:
    """A model and its known numbers.

    Attributes:
        name: the path of the source.
        student, target: their names; None if the source has none.
        isa: instruction set of the target's processor; None if the source has none.
        precisions: arithmetic per runtime, or {"weights": ...} of a bare file; a baseline must have the same.
        images: fingerprint of the test images.
        classes: class names, in order.
        hashes: sha256 of the files; they identify the model in a self-check.
        missing_reason: reason for a number that is not among the measures.
    """

    name: str
    measures: tuple[Measure, ...]
    requirements: tuple[Requirement, ...] = ()
    student: str | None = None
    target: str | None = None
    isa: str | None = None
    precisions: Mapping[str, str] = field(default_factory=dict)
    images: str | None = None
    classes: tuple[str, ...] = ()
    hashes: frozenset[str] = frozenset()
    missing_reason: str = "the manifest has no value"


def load_subject(path: Path) -> Subject:
    """Read the model at `path`: a run folder, a manifest, or an .onnx, .xml, .param or .tflite file.

    A manifest inside its run folder is treated as the run folder, so the files are checked too.

    Raises:
        UsageError: `path` is not a model; the message has the reason.
    """
    try:
        if path.is_dir() or _is_of_run(path):
            return _run(path if path.is_dir() else path.parent)
        if path.suffix in BESIDE:
            return _model_file(path)
        document = read_document(path)
        return manifest_subject(document, str(path))
    except DataError as error:
        # The gate has three exit codes: pass, fail, and a usage error for anything it cannot judge.
        raise UsageError(str(error)) from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}. Check the path."
        ) from None


def _is_of_run(path: Path) -> bool:
    """Return True for a manifest beside anything of its run; without its marker, the run is refused later."""
    parts = (MARKER, EXPORT, REJECTED, UNVALIDATED)
    return path.name == MANIFEST and any(os.path.lexists(path.parent / part) for part in parts)


def _run(root: Path) -> Subject:
    folder = find_run(root)
    if not folder.manifest.exists():
        raise UsageError(
            f"{root} has no {MANIFEST}. The run stopped before its verdict. "
            f"Run: tcs-edge compress --resume {shlex.quote(str(root))}"
        )
    manifest = _manifest(read_document(folder.manifest), str(folder.manifest))
    return _subject(manifest, str(root), _files_requirement(verify_files(root, manifest)))


def manifest_subject(document: Mapping[str, Any], origin: str) -> Subject:
    """Read the numbers of a manifest without its files.

    Raises:
        DataError: not a manifest, or a manifest of another version.
    """
    return _subject(_manifest(document, origin), origin)


def _manifest(document: Mapping[str, Any], origin: str) -> Manifest:
    _require_version(document, origin)
    return parse_manifest(document, origin)


def _require_version(document: Mapping[str, Any], origin: str) -> None:
    _require_integer(document.get("schema_version"), origin)
    version = int(document["schema_version"])
    if version == SCHEMA_VERSION:
        return
    newer = version > SCHEMA_VERSION
    advice = "Update with: pip install --upgrade tcs-edge" if newer else "Repeat the run with: tcs-edge compress"
    age = "a newer" if newer else "an older"
    raise DataError(f"{origin} is from {age} tcs-edge (schema {version}; this one reads {SCHEMA_VERSION}). {advice}")


def _subject(manifest: Manifest, name: str, *requirements: Requirement) -> Subject:
    target = manifest.target.get("name")
    return Subject(
        name=name,
        measures=manifest_measures(manifest),
        requirements=(_verdict_requirement(manifest), *requirements),
        student=manifest.student.name,
        target=target if isinstance(target, str) else None,
        isa=target_isa(manifest),
        precisions={runtime: parity.precision for runtime, parity in manifest.parity.items() if parity.judged},
        images=manifest.dataset.fingerprint,
        classes=manifest.dataset.classes,
        hashes=frozenset(record.sha256 for record in exported_files(manifest) if not _is_sidecar(record.path)),
    )


def _verdict_requirement(manifest: Manifest) -> Requirement:
    """Require the verdict pass, at least one model file, a comparison of every model file, and finite logits."""
    models = [record.path for record in exported_files(manifest) if _is_model(record.path)]
    judged = {name: parity for name, parity in manifest.parity.items() if parity.judged}
    broken = sorted(name for name, parity in judged.items() if not parity.finite)
    unlike = sorted(name for name, parity in judged.items() if parity.embedding and not parity.embedding.finite)
    if manifest.verdict != "pass":
        detail = "the run failed validation, see reports/validation.json"
    elif not models:
        detail = "the manifest lists no exported model"
    elif not judged:
        detail = "no export was compared with the trained model"
    elif alone := [path for path in models if RUNNERS.get(path, "") not in (*manifest.parity, "")]:
        detail = f"{alone[0]} was not compared with the trained model"
    elif broken:
        detail = f"not all logits are finite: {', '.join(broken)}"
    elif unlike:
        detail = f"not all embeddings are finite: {', '.join(unlike)}"
    else:
        return Requirement("parity with PyTorch", True, f"{', '.join(sorted(judged))}: verdict pass")
    return Requirement("parity with PyTorch", False, detail)


def _is_model(path: str) -> bool:
    return path.removesuffix(REJECTED_SUFFIX).endswith((*BESIDE, ".bin"))


def _is_sidecar(path: str) -> bool:
    return PurePosixPath(path.removesuffix(REJECTED_SUFFIX)).name in SIDECARS


def _files_requirement(problems: tuple[FileProblem, ...]) -> Requirement:
    if not problems:
        return Requirement("files unchanged", True, "every file has its recorded sha256")
    listed = ", ".join(f"{problem.path} ({problem.problem})" for problem in problems[:SHOWN_PROBLEMS])
    more = f" and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
    fix = f". {advice}" if (advice := advice_on(problems, otherwise="")) else ""
    return Requirement("files unchanged", False, f"changed after validation: {listed}{more}{fix}")


def _model_file(path: Path) -> Subject:
    if not path.is_file():
        raise DataError(f"no such file: {path}. {WHAT_TO_PASS}")
    files = (path, *(path.with_suffix(suffix) for suffix in BESIDE.get(path.suffix, ())))
    _refuse_links(*files)
    # Imported here, because importing onnx takes as long as everything else together.
    if path.suffix == ".onnx":
        from tcs_edge.gate.onnx_file import onnx_measures as measured
    elif path.suffix == ".param":
        from tcs_edge.gate.ncnn_file import ncnn_measures as measured
    elif path.suffix == ".tflite":
        from tcs_edge.gate.litert_file import litert_measures as measured
    else:
        from tcs_edge.gate.openvino_file import openvino_measures as measured
    file = measured(path)
    findings = {"tensors match the bytes": file.problem, "operators fit together": file.graph_problem}
    requirements = tuple(
        Requirement(name, not problem, f"cannot check this model: {problem}" if problem else "")
        for name, problem in findings.items()
        if problem or name == "tensors match the bytes"
    )
    missing_reason = "a bare model file has no such number. Gate the run folder"
    hashes = frozenset(sha256_file(file) for file in files if file.is_file())
    return Subject(
        str(path),
        file.measures,
        requirements,
        precisions={"weights": file.precision},
        hashes=hashes,
        missing_reason=missing_reason,
    )


def _refuse_links(*paths: Path) -> None:
    for path in filter(Path.is_symlink, paths):
        raise DataError(
            f"{path} is a symbolic link. What it leads to can change after this check. Pass the file itself: "
            f"{path.resolve()}"
        )


def read_document(path: Path) -> Mapping[str, Any]:
    """Read the JSON object in a file.

    Raises:
        DataError: no such file, or not a JSON object.
    """
    try:
        return parse_document(read_regular(path), str(path))
    except FileNotFoundError:
        raise DataError(f"no such file: {path}. {WHAT_TO_PASS}") from None


def parse_document(content: bytes, origin: str) -> Mapping[str, Any]:
    """Parse the JSON object in `content`.

    Raises:
        DataError: as `utils.reading.parse_json`, or not an object.
    """
    document = parse_json(content, origin, "is neither a model nor JSON", WHAT_TO_PASS)
    if not isinstance(document, dict):
        raise DataError(f"{origin} is not a manifest of a run: it is not a JSON object. {WHAT_TO_PASS}")
    _require_integer(document.get("schema_version", 1), origin)
    return document


def _require_integer(version: object, origin: str) -> None:
    """Refuse a version such as true, which equals 1 in Python."""
    if type(version) is not int:
        raise DataError(f"{origin} is not a manifest of a run: its schema_version is {short(version)}. {WHAT_TO_PASS}")
