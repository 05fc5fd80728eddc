"""Write the bill of materials: CycloneDX 1.6 JSON with hashes and a model card (https://cyclonedx.org/docs/1.6/json)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from tcs_edge.runs.licenses import License, licenses_of, student_license
from tcs_edge.runs.schema import Manifest, ManifestFile
from tcs_edge.utils.files import FileRecord

SPEC_VERSION = "1.6"
MODEL_REF, TEACHER_REF, IMAGES_REF = "student", "teacher", "images"
PRODUCER, PYTHON = "tcs-edge", "python"

Files = Iterable[FileRecord | ManifestFile]


def build_bom(manifest: Manifest, files: Files, libraries: Mapping[str, str]) -> dict[str, Any]:
    """Return the bill of materials for `files` of a run; equal runs have equal documents.

    Args:
        libraries: versions by name of the Python packages that made the files or run them.
    """
    components = [
        *_sources(manifest),
        *(_file(record) for record in files),
        *(_library(name, version) for name, version in sorted(libraries.items())),
    ]
    body = {
        "metadata": {
            "timestamp": manifest.created.isoformat(),
            "tools": {
                "components": [{"type": "application", "name": PRODUCER, "version": manifest.versions[PRODUCER]}]
            },
            "component": _model(manifest),
        },
        "components": components,
        "dependencies": [{"ref": MODEL_REF, "dependsOn": [part["bom-ref"] for part in components]}],
    }
    name = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    head = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{name}",
        "version": 1,
    }
    return head | body


def bom_text(document: Mapping[str, Any]) -> str:
    """Format the document as the text of `bom.cdx.json`, in the schema of CycloneDX."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _model(manifest: Manifest) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL_REF,
        "name": manifest.student.name,
        "version": manifest.created.date().isoformat(),
        "description": f"Image classifier with {len(manifest.dataset.classes)} classes, distilled by tcs-edge",
        **_licenses(License("", student_license(manifest))),
        "modelCard": _model_card(manifest),
    }


def _model_card(manifest: Manifest) -> dict[str, Any]:
    side = manifest.student.img_size
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "image-classification",
            "architectureFamily": manifest.student.name.split("_")[0],
            "modelArchitecture": manifest.student.name,
            "datasets": [{"ref": IMAGES_REF}],
            "inputs": [{"format": f"float32 (1, 3, {side}, {side}), preprocessed as in preprocess.json"}],
            "outputs": [{"format": text} for text in _outputs(manifest)],
        },
        "quantitativeAnalysis": {"performanceMetrics": _metrics(manifest)},
        "considerations": {
            "technicalLimitations": [
                "Measured on the test images of one data set. The accuracy may be lower on other images.",
                "Every image gets one of the trained classes, even if it shows none of them.",
            ],
        },
    }


def _outputs(manifest: Manifest) -> list[str]:
    logits = f"float32 (1, {len(manifest.dataset.classes)}) logits, in the order of labels.txt"
    embedding = manifest.student.embedding
    return [logits, *([f"float32 (1, {embedding.size}) embedding, {embedding.space}"] if embedding else [])]


def _metrics(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "type": "accuracy",
            "value": f"{accuracy.value:.4f}",
            "slice": f"{runtime}, {accuracy.total} test images",
            "confidenceInterval": {"lowerBound": f"{accuracy.low:.4f}", "upperBound": f"{accuracy.high:.4f}"},
        }
        for runtime, accuracy in manifest.accuracy.items()
        if runtime not in manifest.only_here
    ]


def _sources(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the components of the student's training: images and teacher."""
    images = {
        "type": "data",
        "bom-ref": IMAGES_REF,
        "name": manifest.dataset.name,
        "hashes": _hashes(manifest.dataset.fingerprint),
        **_licenses(next(license for license in licenses_of(manifest) if license.of.startswith("images"))),
        "data": [{"type": "dataset", "name": manifest.dataset.name}],
        "properties": [
            {"name": f"tcs-edge:images:{part}", "value": str(count)} for part, count in manifest.dataset.counts.items()
        ],
    }
    if manifest.teacher is None:
        return [images]
    teacher = {
        "type": "machine-learning-model",
        "bom-ref": TEACHER_REF,
        "name": manifest.teacher.name,
        "hashes": _hashes(manifest.teacher.weights_sha256),
        **_licenses(License("", manifest.teacher.license)),
        "properties": [{"name": "tcs-edge:weights", "value": manifest.teacher.source}],
    }
    return [teacher, images]


def _file(record: FileRecord | ManifestFile) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{record.path}",
        "name": PurePosixPath(record.path).as_posix(),
        "hashes": _hashes(record.sha256),
        "properties": [{"name": "tcs-edge:bytes", "value": str(record.bytes)}],
    }


def _library(name: str, version: str) -> dict[str, Any]:
    if name == PYTHON:
        return {"type": "platform", "bom-ref": f"python@{version}", "name": "python", "version": version}
    place = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": place, "name": name, "version": version, "purl": place}


def _hashes(sha256: str) -> list[dict[str, str]]:
    """Return a hash list, empty if the recorded value is not a sha256."""
    is_sha256 = len(sha256) == 64 and all(digit in "0123456789abcdef" for digit in sha256)
    return [{"alg": "SHA-256", "content": sha256}] if is_sha256 else []


def _licenses(license: License) -> dict[str, Any]:
    return {"licenses": [{"license": {"id": license.spdx} if license.spdx else {"name": license.name}}]}
