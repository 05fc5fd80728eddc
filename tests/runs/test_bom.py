"""Bill of materials: valid CycloneDX, with the hash of every part."""

from __future__ import annotations

import json

import pytest

from tcs_edge.runs.bom import bom_text, build_bom
from tcs_edge.runs.licenses import SPDX
from tcs_edge.runs.manifest import exported_files, read_manifest


def require_valid(text: str) -> None:
    pytest.importorskip("jsonschema", reason="cyclonedx-python-lib[json-validation] is in the dev extra")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def document_of(root) -> dict:
    manifest = read_manifest(root)
    return build_bom(manifest, exported_files(manifest), manifest.versions)


def test_a_run_has_a_valid_bill_of_materials(finished, manifest):
    text = (finished / "bom.cdx.json").read_text(encoding="utf-8")
    require_valid(text)
    document = json.loads(text)
    parts = {part["bom-ref"]: part for part in document["components"]}
    hashes = {record["path"]: record["sha256"] for record in manifest["files"]}
    assert parts["file:export/model.onnx"]["hashes"][0]["content"] == hashes["export/model.onnx"]
    assert parts["teacher"]["name"] == "timm/test_vit"
    assert parts["teacher"]["hashes"][0]["content"] == manifest["teacher"]["weights_sha256"]
    assert parts["images"]["hashes"][0]["content"] == manifest["dataset"]["fingerprint"]
    assert f"pkg:pypi/torch@{manifest['versions']['torch']}" in parts
    card = document["metadata"]["component"]["modelCard"]
    assert card["modelParameters"]["task"] == "image-classification"
    values = {metric["slice"]: metric["value"] for metric in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert values["onnxruntime, 36 test images"] == f"{manifest['accuracy']['onnxruntime']['value']:.4f}"
    assert set(document["dependencies"][0]["dependsOn"]) == set(parts)


def test_the_manifest_records_model_card_and_bill_of_materials(manifest):
    assert {"README.md", "bom.cdx.json"} <= {record["path"] for record in manifest["files"]}


def test_a_run_with_hostile_names_and_without_teacher_is_valid(make_run):
    document = document_of(make_run())
    require_valid(bom_text(document))
    assert "teacher" not in {part["bom-ref"] for part in document["components"]}


def test_the_same_run_gives_the_same_document(make_run):
    run = make_run()
    assert bom_text(document_of(run)) == bom_text(document_of(run))


def test_spdx_identifiers_are_supported():
    pytest.importorskip("license_expression", reason="a dependency of cyclonedx-python-lib")
    from cyclonedx.spdx import is_supported_id

    assert [name for name in SPDX.values() if not is_supported_id(name)] == []
