"""Model card: valid front matter, results of the run, and escaped names."""

from __future__ import annotations

import pytest

from tcs_edge.report.model_card import model_card
from tcs_edge.runs.manifest import read_manifest


def front_matter(text: str) -> dict:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the front matter")
    head, matter, _ = text.split("---\n", 2)
    assert head == ""
    return yaml.safe_load(matter)


def test_a_run_has_a_model_card(finished, manifest):
    text = (finished / "README.md").read_text(encoding="utf-8")
    matter = front_matter(text)
    assert matter["pipeline_tag"] == "image-classification"
    assert matter["license"] == "other"
    assert matter["metrics"] == ["accuracy"]
    assert "tcs-edge" in matter["tags"]
    results = matter["model-index"][0]["results"]
    assert results[0]["metrics"][0]["value"] == pytest.approx(manifest["accuracy"]["onnxruntime"]["value"], abs=1e-4)
    for heading in ("Results", "Use", "Data", "Limits", "Licenses", "Origin"):
        assert f"\n## {heading}\n" in text
    assert "timm/test_vit" in text.replace("&#47;", "/").replace("&#95;", "_")
    assert manifest["dataset"]["fingerprint"] in text


def test_hostile_names_are_escaped_in_markdown_and_yaml(make_run):
    manifest = read_manifest(make_run())
    named = manifest.dataset.model_copy(update={"name": 'x"\n---\n<script>'})
    text = model_card(manifest.model_copy(update={"dataset": named}))
    matter = front_matter(text)
    assert matter["datasets"][0].startswith('x"')
    body = text.split("---\n", 2)[2]
    assert "<script>" not in body
    assert "<b>" not in body
    assert "@everyone" not in body


def test_an_arithmetic_of_the_exporting_machine_is_marked(make_run):
    manifest = read_manifest(make_run())
    (name,) = manifest.parity
    here = manifest.model_copy(update={"parity": {name: manifest.parity[name].model_copy(update={"judged": False})}})
    text = model_card(here)
    assert f"| {name} (this machine, not judged) |" in text
    assert front_matter(text)["model-index"][0]["results"] is None


def test_a_failed_run_is_marked_not_deployable(make_run):
    text = model_card(read_manifest(make_run(passed=False)))
    assert text.index("Not deployable") < text.index("## Results")


def test_copies_in_train_and_test_are_stated(make_run):
    manifest = read_manifest(make_run())
    assert "copy in train" not in model_card(manifest)
    leaked = manifest.dataset.model_copy(update={"test_copies": 3})
    text = model_card(manifest.model_copy(update={"dataset": leaked}))
    assert "Test images with a copy in train: 3. The accuracy is too optimistic by them." in text
