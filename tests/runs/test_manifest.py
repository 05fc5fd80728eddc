"""Manifest: written and read without loss, and changed files are found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from tcs_edge.errors import DataError, ParityFailed
from tcs_edge.runs.folder import open_run
from tcs_edge.runs.manifest import (
    FileProblem,
    build_manifest,
    read_manifest,
    verify_files,
    with_files,
    write_manifest,
)  # fmt: skip
from tcs_edge.runs.schema import DatasetRecord, StageRecord, StudentRecord, TeacherRecord
from tcs_edge.runs.validated import validated_run
from tcs_edge.validation.accuracy import Accuracy
from tcs_edge.validation.checks import holds
from tcs_edge.validation.metrics import Metrics, MetricsMeter
from tcs_edge.validation.parity import compare
from tcs_edge.validation.validate import Validation

ROOT = Path(__file__).resolve().parents[2]
LOGITS = np.array([[2.0, 1.0], [0.0, 1.0]])
LABELS = np.array([0, 1])
LATENCY = {"p50_ms": 2.0, "low_ms": 1.0, "high_ms": 4.0, "threads": 4, "source": "estimated", "citation": "a table"}


def metrics_of(logits: np.ndarray, labels: np.ndarray = LABELS) -> Metrics:
    meter = MetricsMeter()
    meter.add(logits, labels)
    return meter.result()


def validation(logits: np.ndarray = LOGITS) -> Validation:
    return Validation(
        images=2,
        checks=(holds("onnxruntime: runs on every image", True),),
        precisions={"pytorch": "f32", "onnxruntime": "f32"},
        accuracies={name: Accuracy.of(LOGITS, LABELS) for name in ("pytorch", "onnxruntime")},
        parities={"onnxruntime": compare(LOGITS, logits)},
        metrics={name: metrics_of(LOGITS) for name in ("pytorch", "onnxruntime")},
    )


def make(root, outcome=None):
    return build_manifest(
        root,
        created=datetime(2026, 3, 1, 12, tzinfo=UTC),
        seed=7,
        dataset=DatasetRecord(name="pets", fingerprint="ab", classes=("cat", "dog"), counts={"train": 9}, skipped=1),
        teacher=TeacherRecord(name="t", license="Apache-2.0", weights_sha256="cd", source="file"),
        student=StudentRecord(name="s", init="random", img_size=32, params_m=0.1),
        target={"name": "raspberrypi4"},
        options={"epochs": 3},
        stages=[StageRecord(name="train", seconds=1.5, peak_memory_mb=200.0)],
        validation=outcome or validation(),
    )


@pytest.fixture
def run(tmp_path):
    run = open_run(tmp_path / "run")
    (run.unvalidated / "model.xml").write_bytes(b"<net/>")
    (run.unvalidated / "model.bin").write_bytes(b"w" * 500_000)
    run.deployed_weights.write_bytes(b"weights")
    run.apply_verdict(passed=True)
    write_manifest(run.root, make(run.root))
    return run


def edit(run, change) -> None:
    document = json.loads(run.manifest.read_text())
    change(document)
    run.manifest.write_text(json.dumps(document))


def recalls(document: dict) -> dict:
    return document["metrics"]["onnxruntime"]["recalls"]


def fewer_correct(accuracy: dict) -> None:
    accuracy.update(Accuracy.of_counts(1, 2).to_json())


def test_a_manifest_is_read_as_written(run):
    manifest = read_manifest(run.root)
    assert manifest == make(run.root)
    assert manifest.verdict == "pass"
    assert manifest.versions["tcs-edge"]
    assert manifest.accuracy["onnxruntime"].correct == 2


def test_every_file_is_recorded_and_the_export_size_is_the_sum(run):
    manifest = read_manifest(run.root)
    recorded = {file.path: (file.bytes, file.sha256) for file in manifest.files}
    weights = hashlib.sha256(b"w" * 500_000).hexdigest()
    assert set(recorded) == {"checkpoints/deployed.safetensors", "export/model.bin", "export/model.xml"}
    assert recorded["export/model.bin"] == (500_000, weights)
    assert manifest.export_mb == pytest.approx(0.500006)


@pytest.mark.parametrize("place", ["", "reports/", "export/"])
def test_traces_of_processes_are_never_recorded(run, place):
    """A lock that is held, and the draft of a process that writes or was killed."""
    before = {record.path for record in make(run.root).files}
    (run.root / ".tcs-edge.lock").write_text("process 1")
    (run.root / f"{place}.page.draft-4000000.html").write_text("<html>")
    assert {record.path for record in make(run.root).files} == before


def test_an_untouched_run_has_no_problems(run):
    assert verify_files(run.root, read_manifest(run.root)) == ()


def test_changed_missing_and_unlisted_files_are_found(run):
    manifest = read_manifest(run.root)
    (run.export / "model.bin").write_bytes(b"w" * 499_999 + b"v")
    (run.export / "model.xml").unlink()
    (run.export / "extra.onnx").write_bytes(b"?")
    (run.reports / "later.html").write_text("a report may come later")
    assert verify_files(run.root, manifest) == (
        FileProblem("export/extra.onnx", "not in the manifest"),
        FileProblem("export/model.bin", "changed"),
        FileProblem("export/model.xml", "missing"),
    )


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, timeout=60, capture_output=True)


@pytest.mark.parametrize("attributes", [False, True])
def test_line_ends_that_git_changed_are_named_with_their_fix(make_run, tmp_path, cli, attributes):
    origin, copy = tmp_path / "origin", tmp_path / "copy"
    run = make_run("origin/model")
    manifest = read_manifest(run)
    (run / "export" / "labels.txt").write_bytes(b"cat\ndog\n")
    write_manifest(run, with_files(manifest, run, [run / "export" / "labels.txt"]))
    if attributes:
        shutil.copy(ROOT / "examples" / "ci" / ".gitattributes", origin)
    git(origin, "init", "-q")
    git(origin, "add", "-f", ".")
    git(origin, "commit", "-qm", "a run")
    git(tmp_path, "-c", "core.autocrlf=true", "clone", "-q", str(origin), str(copy))
    assert ((copy / "model" / "export" / "labels.txt").read_bytes() == b"cat\ndog\n") == attributes
    problems = verify_files(copy / "model", read_manifest(copy / "model"))
    result = cli("gate", copy / "model", "--max-params-m", 100)
    if attributes:
        assert problems == ()
        assert result.exit_code == 0, result.stderr + result.stdout
        return
    assert problems == (FileProblem("export/labels.txt", "CRLF line ends"),)
    assert result.exit_code == 1
    assert "Put the line `* -text` into a .gitattributes file" in result.stdout
    with pytest.raises(ParityFailed, match=r"export/labels.txt \(CRLF line ends\)\. Git changed line ends"):
        validated_run(copy / "model")


def test_another_change_is_not_blamed_on_line_ends(run):
    manifest = read_manifest(run.root)
    (run.export / "model.xml").write_bytes(b"<net>\r\n</net>\r\n" * 9)
    assert verify_files(run.root, manifest) == (FileProblem("export/model.xml", "changed"),)


def test_links_and_pipes_among_the_exports_are_found(run, tmp_path):
    manifest = read_manifest(run.root)
    (run.export / "model.bin").rename(tmp_path / "model.bin")
    (run.export / "model.bin").symlink_to(tmp_path / "model.bin")
    os.mkfifo(run.export / "pipe.onnx")
    assert verify_files(run.root, manifest) == (
        FileProblem("export/model.bin", "a symbolic link"),
        FileProblem("export/pipe.onnx", "not in the manifest"),
    )


def test_a_linked_export_folder_is_found(run, tmp_path):
    manifest = read_manifest(run.root)
    run.export.rename(tmp_path / "elsewhere")
    run.export.symlink_to(tmp_path / "elsewhere")
    found = {problem.path: problem.problem for problem in verify_files(run.root, manifest)}
    assert found["export"] == "not in the manifest"
    assert found["export/model.bin"] == "a symbolic link"


@pytest.mark.parametrize("version", [0, 2, None, "1", True, 1.0])
def test_another_schema_version_is_refused(run, version):
    edit(run, lambda document: document.update(schema_version=version))
    with pytest.raises(DataError, match=r"schema_version is .*this version reads 1"):
        read_manifest(run.root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("seed"), "seed is missing"),
        (lambda d: d.update(verdict="maybe"), "verdict"),
        (lambda d: d.update(color="red"), "unknown key color"),
        (lambda d: d["files"][0].update(sha256="zz"), "sha256"),
        (lambda d: d["files"][0].update(path="../../etc/passwd"), "inside its folder"),
        (lambda d: d["files"][0].update(path="/etc/passwd"), "inside its folder"),
        (lambda d: d["files"][0].update(path="export/./model.bin"), "shortest form"),
        (lambda d: d["files"][0].update(path="export/a\0b"), "shortest form"),
        (lambda d: d["files"].append(d["files"][0] | {"sha256": "0" * 64}), "two records"),
        (lambda d: d["files"][0].update(bytes=-1), "bytes"),
        (lambda d: d["files"][0].update(bytes=10**30), "bytes"),
        (lambda d: d["student"].update(params_m=1e308), "params_m"),
        (lambda d: d["student"].update(params_m="0.1"), "params_m"),
        (lambda d: d["student"].update(img_size=10**9), "img_size"),
        (lambda d: d["student"].update(latency=LATENCY | {"low_ms": 3.0}), "low_ms <= p50_ms"),
        (lambda d: d["student"].update(latency=LATENCY | {"high_ms": 1.0}), "low_ms <= p50_ms"),
        (lambda d: d.update(target={"runtimes": 7}), "runtimes must be a table"),
        (lambda d: d.update(target={"runtimes": {"onnxruntime": 7}}), "onnxruntime must be a table"),
        (lambda d: d.update(target={"cpu": []}), "cpu must be a table"),
        (lambda d: d["dataset"].update(classes=[]), "classes"),
        (lambda d: d["dataset"]["counts"].update(test=-1), "counts.test"),
        (lambda d: d["accuracy"]["onnxruntime"].update(low=1e308, value=1e308, high=1e308), "value"),
        (lambda d: d["accuracy"]["onnxruntime"].update(low=0.99, value=0.3), "low <= value"),
        (lambda d: d["versions"].pop("tcs-edge"), "the version of tcs-edge is missing"),
        (lambda d: d["accuracy"]["onnxruntime"].update(correct=1), "1 of 2 images"),
        (lambda d: d["accuracy"]["onnxruntime"].update(low=1.0), "the interval is 1.0 to 1.0, but 2 of 2 images give"),
        (lambda d: d["accuracy"]["onnxruntime"].update(low=0.343), "2 of 2 images give 0.34238 to 1"),
        (lambda d: d["accuracy"]["onnxruntime"].update(correct=0, total=0), "total"),
        (lambda d: d["metrics"]["onnxruntime"].update(macro_f1=0.9), "counts of the classes give 1"),
        (lambda d: d["metrics"]["onnxruntime"].update(balanced_accuracy=0.9), "balanced_accuracy is 0.9"),
        (lambda d: d["metrics"]["onnxruntime"].update(ece=1.5), "ece"),
        (lambda d: d["metrics"]["onnxruntime"].update(ece=None), "0 images have no prediction"),
        (lambda d: d["metrics"]["onnxruntime"].update(bins=0), "bins"),
        (lambda d: recalls(d).update(total=[1, 2]), "not the recall of 1 of 2"),
        (lambda d: recalls(d).update(correct=[2, 0]), "2 correct of 1 images"),
        (lambda d: recalls(d).update(predicted=[1, 0]), "1 correct of 1 images and 0 predictions"),
        (lambda d: recalls(d).update(predicted=[1, 2]), "3 predictions for 2 images"),
        (lambda d: recalls(d).update(value=[1.0, None]), "null without test images, and only then"),
        (lambda d: recalls(d).update(high=[0.5, 1.0]), "not the recall of 1 of 1"),
        (lambda d: recalls(d).update(low=[0.9, 0.9]), "the interval is 0.9 to 1.0, but 1 of 1 images give"),
        (lambda d: recalls(d).update(low=[-0.5, 0.1]), "low"),
        (lambda d: recalls(d).update(low=[0.1]), "one entry per class each"),
        (lambda d: recalls(d).update(correct=[True, True]), "correct"),
        (lambda d: d["metrics"].update(other=d["metrics"]["pytorch"]), "metrics of other count 2 of 2 correct; its"),
        (lambda d: d["dataset"].update(classes=["cat"]), "metrics of pytorch have 2 classes, dataset 1"),
        (lambda d: fewer_correct(d["accuracy"]["onnxruntime"]), "count 2 of 2 correct; its accuracy is 1 of 2"),
        (lambda d: d["parity"]["onnxruntime"].update(top1_agreement=2.0), "top1_agreement"),
        (lambda d: d["parity"]["onnxruntime"].update(max_rel_diff=-1.0), "max_rel_diff"),
    ],
)
def test_an_invalid_manifest_is_a_data_error(run, change, words):
    edit(run, change)
    with pytest.raises(DataError, match=words) as caught:
        read_manifest(run.root)
    assert "\n" not in str(caught.value)


def test_a_missing_or_truncated_manifest_is_a_data_error(run):
    run.manifest.write_text(run.manifest.read_text()[:100])
    with pytest.raises(DataError, match="not JSON"):
        read_manifest(run.root)
    run.manifest.unlink()
    with pytest.raises(DataError, match="no such file"):
        read_manifest(run.root)


def test_a_manifest_has_the_metrics_of_every_runtime(run):
    found = read_manifest(run.root).metrics
    assert set(found) == {"pytorch", "onnxruntime"}
    assert found["onnxruntime"].model_dump(mode="json") == metrics_of(LOGITS).to_json()


def test_a_class_without_test_images_has_a_recall_of_null(run):
    labels = np.array([0, 0])
    found = replace(
        validation(),
        accuracies={"pytorch": Accuracy.of(LOGITS, labels)},
        metrics={"pytorch": metrics_of(LOGITS, labels)},
    )
    write_manifest(run.root, make(run.root, found))
    record = read_manifest(run.root).metrics["pytorch"]
    assert record.recalls.value == (0.5, None)
    assert record.balanced_accuracy == 0.5


def test_a_manifest_of_a_run_without_metrics_is_read(run):
    edit(run, lambda document: document.pop("metrics"))
    assert read_manifest(run.root).metrics == {}


def test_nonfinite_logits_are_written_as_null(run):
    write_manifest(run.root, make(run.root, validation(np.full((2, 2), np.nan))))
    record = read_manifest(run.root).parity["onnxruntime"]
    assert record.max_abs_diff is None
    assert not record.finite
