"""Tests of whole runs: their files, manifest and log, failures, and resumed runs."""

from __future__ import annotations

import copy
import gc
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer

from tcs_edge.pipeline import run as pipeline
from tcs_edge.specs.config import CompressConfig, load_config
from tcs_edge.stages import export_student
from tcs_edge.stages import prepare as preparation
from tcs_edge.students.build import build_student
from tcs_edge.training import trainer
from tcs_edge.utils.files import sha256_file
from tcs_edge.validation.checks import holds

FINISHED_FILES = {
    "manifest.json", "config.resolved.toml", "metrics.jsonl", "train.log", "tcs-edge-run.json",
    "README.md", "bom.cdx.json", "checkpoints/deployed.safetensors", "export/model.onnx", "export/openvino/model.xml",
    "export/openvino/model.bin", "export/labels.txt", "export/preprocess.json", "export/confidence.json",
    "reports/validation.json",
    "reports/selection.json", "reports/choice.json", "reports/pareto.svg", "reports/coordinates.json",
    "reports/predictions.json", "reports/latency.json", "reports/report.html",
}  # fmt: skip
RUNTIMES = {"pytorch", "onnxruntime", "openvino"}


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_run_folder_has_exactly_the_documented_files(finished):
    assert files_of(finished) == FINISHED_FILES
    assert (finished / "export" / "labels.txt").read_text().split() == ["blue", "green", "red"]


def test_manifest_lists_files_with_size_and_hash(finished, manifest):
    listed = {record["path"]: record for record in manifest["files"]}
    assert set(listed) == FINISHED_FILES - {"manifest.json", "tcs-edge-run.json", "reports/report.html"}
    for path, record in listed.items():
        assert record["bytes"] == (finished / path).stat().st_size
        assert record["sha256"] == sha256_file(finished / path)
    exported = sum(record["bytes"] for path, record in listed.items() if path.startswith("export/"))
    assert manifest["export_mb"] == pytest.approx(exported / 1e6)


def test_manifest_records_versions_images_teacher_and_student(manifest, teacher_file):
    assert {"tcs-edge", "python", "torch", "timm", "onnx", "onnxruntime", "openvino"} <= set(manifest["versions"])
    assert manifest["seed"] == 0
    assert manifest["dataset"]["counts"] == {"train": 72, "val": 24, "test": 36}
    assert len(manifest["dataset"]["fingerprint"]) == 64
    teacher = manifest["teacher"]
    assert (teacher["name"], teacher["license"]) == ("timm/test_vit", "apache-2.0")
    assert teacher["weights_sha256"] == sha256_file(teacher_file)
    assert (manifest["student"]["name"], manifest["student"]["img_size"]) == ("lcnet_050", 64)


def test_manifest_records_time_and_memory_of_stages(manifest):
    names = [stage["name"] for stage in manifest["stages"]]
    assert names == [
        "images and choice", "student", "teacher", "coordinates", "distill", "calibrate", "export", "precisions",
        "validate", "latency",
    ]  # fmt: skip
    for stage in manifest["stages"]:
        assert 0 <= stage["seconds"] < 600
        assert 50 < stage["peak_memory_mb"] < 100_000


def test_manifest_records_verdict_accuracy_and_parity(manifest):
    assert manifest["verdict"] == "pass"
    assert set(manifest["accuracy"]) >= RUNTIMES
    for accuracy in manifest["accuracy"].values():
        assert accuracy["total"] == 36
        assert accuracy["value"] == pytest.approx(accuracy["correct"] / 36)
        assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    assert manifest["accuracy"]["pytorch"]["value"] > 0.6, "colored noise is easy; the student learned nothing"
    assert set(manifest["parity"]) >= RUNTIMES - {"pytorch"}
    for parity in manifest["parity"].values():
        assert parity["finite"]
        assert parity["max_rel_diff"] < 1e-4 or parity["precision"] != "f32"


def test_metrics_have_one_line_per_epoch(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["ce"] < lines[0]["ce"]


def test_resolved_config_is_valid_and_equals_options_of_manifest(finished, manifest):
    resolved = CompressConfig.model_validate(load_config(finished / "config.resolved.toml"))
    assert resolved.model_dump(mode="json", exclude_none=True) == manifest["options"]
    assert None not in {resolved.epochs, resolved.lr, resolved.img_size, resolved.augment, resolved.threads}


@pytest.fixture
def stopped_mid_epoch(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Raise KeyboardInterrupt in the fourth epoch of training; count vision transformers at the first step."""
    step, seen = trainer._Run._step, {}

    def interrupted(self, batch, number):
        if number == 0:
            gc.collect()
            seen["transformers"] = _transformers()
        if number == 3 * self.data.steps_per_epoch + 2:
            raise KeyboardInterrupt
        return step(self, batch, number)

    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(trainer._Run, "_step", interrupted)
    return seen


def _transformers() -> int:
    return sum(issubclass(type(thing), VisionTransformer) for thing in gc.get_objects())


@pytest.mark.slow
def test_printed_command_resumes_an_interrupted_run(cli, tiny, finished, stopped_mid_epoch, tmp_path, monkeypatch):
    before = _transformers()
    out = tmp_path / "my runs" / "a"
    result = cli(*tiny(cache_dir=tmp_path / "fresh"), "--out", out)
    assert result.exit_code == 130, result.stderr
    assert "Traceback" not in result.output
    assert stopped_mid_epoch["transformers"] == before, "the teacher is still in memory while the student trains"
    assert "teacher pass: " in (out / "train.log").read_text(), "the teacher was never loaded"
    assert not (out / "export").exists()
    assert not (out / "manifest.json").exists()
    monkeypatch.undo()
    command = shlex.split(result.stderr.split("Continue with: tcs-edge ")[1].splitlines()[0])
    again = cli(*command)
    assert again.exit_code == 0, again.stderr
    assert files_of(out) == FINISHED_FILES
    deployed = "checkpoints/deployed.safetensors"
    assert (out / deployed).read_bytes() == (finished / deployed).read_bytes()
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 6
    assert "verdict: pass" in again.stdout
    once_more = cli(*command)
    assert once_more.exit_code == 2
    assert "nothing to resume" in once_more.stderr


@pytest.mark.slow
def test_resumed_run_uses_the_same_soft_labels(cli, tiny, stopped_mid_epoch, tmp_path, monkeypatch):
    """They may need the student's own features before training, which training changes."""
    weights = tmp_path / "weights.safetensors"
    save_file(build_student("lcnet_050", 64, "random", seed=1).state_dict(), weights)
    command = [*tiny(shots=6, student_init=weights), "--rest-unlabeled"]
    runs = tmp_path / "stopped", tmp_path / "whole"
    assert cli(*command, "--out", runs[0]).exit_code == 130
    monkeypatch.undo()
    assert cli("compress", "--resume", runs[0]).exit_code == 0
    assert cli(*command, "--out", runs[1]).exit_code == 0
    deployed = [(run / "checkpoints/deployed.safetensors").read_bytes() for run in runs]
    assert deployed[0] == deployed[1]
    lines = [set(re.findall("soft labels: student probe [1-9].*", (run / "train.log").read_text())) for run in runs]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 1


@pytest.mark.slow
def test_run_interrupted_in_export_resumes_without_training(cli, tiny, finished, tmp_path, monkeypatch):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(export_student, "export_onnx", stop)
        assert cli(*tiny(), "--out", out).exit_code == 130
    monkeypatch.setattr(pipeline, "train_student", stop)
    again = cli("compress", "--resume", out)
    assert again.exit_code == 0, again.stderr
    assert files_of(out) == FINISHED_FILES
    deployed = "checkpoints/deployed.safetensors"
    assert (out / deployed).read_bytes() == (finished / deployed).read_bytes()


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("trouble", ["damaged teacher", "interrupted pass"])
def test_a_run_that_stops_before_its_training_leaves_no_folder(
    cli, tiny, teacher_file, tmp_path, monkeypatch, trouble, named
):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    weights = load_file(teacher_file)
    weights["norm.weight"][0] = float("nan")
    save_file(weights, tmp_path / "nan.safetensors")
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    out = ["--out", "a/b/run"] if named else []
    if trouble == "damaged teacher":
        result = cli(*tiny(teacher_weights=tmp_path / "nan.safetensors", cache_dir=tmp_path / "cache"), *out)
        assert result.exit_code == 3, result.stderr
    else:
        monkeypatch.setattr(pipeline, "teach", stop)
        result = cli(*tiny(), *out)
        assert result.exit_code == 130
        assert "There is no run folder. Run the same command again." in result.stderr
    assert list(place.iterdir()) == []


def test_a_run_that_stops_before_its_training_keeps_the_run_to_overwrite(cli, tiny, own_run, monkeypatch):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    before = {name: sha256_file(own_run / name) for name in files_of(own_run)}
    monkeypatch.setattr(pipeline, "teach", stop)
    assert cli(*tiny(), "--out", own_run, "--overwrite").exit_code == 130
    assert {name: sha256_file(own_run / name) for name in files_of(own_run)} == before


@pytest.mark.usefixtures("short_training")
def test_a_second_run_of_a_day_gets_a_number(cli, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "default_out", lambda target, student, _: Path("runs") / f"day-{target}-{student}")
    first, second = (json.loads(cli(*tiny(epochs=1, precision="fp32"), "--json").stdout)["run"] for _ in range(2))
    assert (first, second) == ("runs/day-raspberrypi4-lcnet_050", "runs/day-raspberrypi4-lcnet_050-2")
    assert [json.loads((Path(run) / "manifest.json").read_text())["verdict"] for run in (first, second)] == ["pass"] * 2


def test_train_log_starts_with_lines_logged_before_the_folder_existed(finished):
    lines = (finished / "train.log").read_text().splitlines()
    assert " INFO images: photos" in lines[0]
    assert any(" INFO student: lcnet_050 " in line for line in lines)
    assert any(" INFO exporting ONNX" in line for line in lines)


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        ({"teacher": "dinov22"}, 2, "Did you mean dinov2"),
        ({"student": "lcnet_05"}, 2, "Did you mean lcnet_0"),
        ({"teacher_weights": "no.safetensors"}, 4, "no such weights file"),
        ({"student_init": "no.safetensors"}, 4, "no such weights file"),
        ({"device": "abacus"}, 2, "device: unknown value 'abacus'"),
        ({"out": Path(__file__).parent}, 2, "not empty"),
    ],
)
def test_wrong_names_fail_before_images_are_read(cli, tiny, monkeypatch, wrong, code, message):
    def read(*_arguments: object) -> None:
        raise AssertionError("the images were read first")

    monkeypatch.setattr(preparation, "load_images", read)
    result = cli(*tiny(**wrong))
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_export_that_differs_from_model_is_rejected(cli, tiny, tmp_path, monkeypatch):
    right = export_student.export_onnx

    def wrong(model, *arguments, **options):
        spoilt = copy.deepcopy(model)
        list(spoilt.parameters())[-1].data[0] += 1.0
        return right(spoilt, *arguments, **options)

    monkeypatch.setattr(export_student, "export_onnx", wrong)
    out = tmp_path / "run"
    result = cli(*tiny(epochs=1), "--out", out)
    assert result.exit_code == 1
    assert "exports not validated, model quality" in result.stdout
    assert "verdict: fail" in result.stdout
    assert "NOT DEPLOYABLE" in result.stdout
    assert not (out / "export").exists()
    assert not (out / "export.unvalidated").exists()
    rejected = files_of(out / "export.REJECTED")
    assert rejected
    assert all(name.endswith(".rejected") for name in rejected)
    assert json.loads((out / "manifest.json").read_text())["verdict"] == "fail"
    for command in (("validate", out), ("predict", out, out / "train.log")):
        assert cli(*command).exit_code == 1


def test_nan_loss_stops_the_run_with_the_step(cli, tiny, tmp_path):
    result = cli(*tiny(lr=1e30, epochs=2), "--out", tmp_path / "run")
    assert result.exit_code == 1, result.stderr
    assert "at step" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
    assert not (tmp_path / "run" / "export").exists()


@pytest.mark.slow
def test_run_on_real_photos_with_real_weights(cli, shared_folder, tmp_path):
    weights = shared_folder / "weights"
    for part, count in {"train": 10, "val": 2, "test": 5}.items():
        for folder in sorted((shared_folder / "data" / "eurosat" / part).iterdir()):
            (tmp_path / "photos" / part / folder.name).mkdir(parents=True)
            for photo in sorted(folder.iterdir())[:count]:
                shutil.copy(photo, tmp_path / "photos" / part / folder.name)
    result = cli(
        "compress", "--target", "raspberrypi4", "--data", tmp_path / "photos", "--teacher", "dinov2",
        "--teacher-weights", weights / "vit_small_patch14_dinov2_saliency.fp16.safetensors",
        "--teacher-img-size", 112, "--student", "tf_efficientnet_lite0",
        "--student-init", weights / "tf_efficientnet_lite0_in1k.safetensors", "--epochs", 4, "--batch-size", 20,
        "--threads", 1, "--workers", 0, "--cache-dir", tmp_path / "cache", "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    manifest = json.loads(result.stdout)
    assert manifest["verdict"] == "pass"
    assert manifest["teacher"]["name"] == "dinov2-small"
    assert manifest["dataset"]["counts"] == {"train": 100, "val": 20, "test": 50}
    assert manifest["accuracy"]["onnxruntime"]["low"] > 0.1, "at chance level of ten classes"


def test_deployed_weights_have_one_folded_layer(finished):
    state = load_file(finished / "checkpoints" / "deployed.safetensors")
    heads = [name for name in state if name.startswith("1.")]
    assert sorted(heads) == ["1.bias", "1.weight"]
    assert state["1.weight"].shape[0] == 3


@pytest.mark.slow
def test_a_model_at_chance_fails_the_run(cli, tiny, tmp_path):
    out = tmp_path / "run"
    result = cli(*tiny(epochs=1, lr=1e-9), "--out", out)
    assert result.exit_code == 1, result.stderr
    assert "FAILED model: better than chance: " in result.stdout
    assert "exports validated, model quality at or below chance" in result.stdout
    document = json.loads((tmp_path / "run/reports/validation.json").read_text())
    verdicts = [document[name] for name in ("verdict", "exports_verdict", "quality_verdict")]
    assert verdicts == ["fail", "pass", "fail"]
    assert "chance 33.3 %" in result.stdout
    assert (out / "export.REJECTED").is_dir()
    assert not (out / "export").exists()
    assert "Chance accuracy of these predictions: 33.3 %." in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_validate_repeats_the_comparison_with_chance(cli, tiny, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("tcs_edge.stages.validate.chance_check", lambda *_: holds("model: better than chance", True))
        assert cli(*tiny(epochs=1, lr=1e-9), "--out", out).exit_code == 0
    again = cli("validate", out)
    assert again.exit_code == 1
    assert "FAILED model: better than chance" in again.stdout
    assert (out / "export").is_dir()
