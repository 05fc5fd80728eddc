"""Whole runs: what they leave, what breaks them, and that a run that was stopped goes on as if it had not been."""

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
from tcs_edge.stages import prepare as preparation
from tcs_edge.students.build import build_student
from tcs_edge.training import trainer
from tcs_edge.utils.files import sha256_file

FINISHED_FILES = {
    "manifest.json", "config.resolved.toml", "metrics.jsonl", "train.log", "tcs-edge-run.json",
    "README.md", "bom.cdx.json", "checkpoints/deployed.safetensors", "export/model.onnx", "export/openvino/model.xml",
    "export/openvino/model.bin", "export/labels.txt", "export/preprocess.json", "reports/validation.json",
    "reports/selection.json", "reports/choice.json", "reports/pareto.svg", "reports/coordinates.json",
    "reports/predictions.json", "reports/latency.json", "reports/report.html",
}  # fmt: skip
RUNTIMES = {"pytorch", "onnxruntime", "openvino"}


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_run_folder_holds_exactly_what_is_promised(finished):
    assert files_of(finished) == FINISHED_FILES
    assert (finished / "export" / "labels.txt").read_text().split() == ["blue", "green", "red"]


def test_the_manifest_names_every_other_file_with_its_size_and_hash(finished, manifest):
    listed = {record["path"]: record for record in manifest["files"]}
    assert set(listed) == FINISHED_FILES - {"manifest.json", "tcs-edge-run.json", "reports/report.html"}
    for path, record in listed.items():
        assert record["bytes"] == (finished / path).stat().st_size
        assert record["sha256"] == sha256_file(finished / path)
    exported = sum(record["bytes"] for path, record in listed.items() if path.startswith("export/"))
    assert manifest["export_mb"] == pytest.approx(exported / 1e6)


def test_the_manifest_tells_where_the_model_comes_from(manifest, teacher_file):
    assert {"tcs-edge", "python", "torch", "timm", "onnx", "onnxruntime", "openvino"} <= set(manifest["versions"])
    assert manifest["seed"] == 0
    assert manifest["dataset"]["counts"] == {"train": 72, "val": 24, "test": 36}
    assert len(manifest["dataset"]["fingerprint"]) == 64
    teacher = manifest["teacher"]
    assert (teacher["name"], teacher["license"]) == ("timm/test_vit", "apache-2.0")
    assert teacher["weights_sha256"] == sha256_file(teacher_file)
    assert (manifest["student"]["name"], manifest["student"]["img_size"]) == ("lcnet_050", 64)


def test_the_manifest_tells_what_the_run_cost(manifest):
    names = [stage["name"] for stage in manifest["stages"]]
    assert names == [
        "images and choice", "student", "teacher", "coordinates", "distill", "export", "precisions", "validate",
        "latency",
    ]  # fmt: skip
    for stage in manifest["stages"]:
        assert 0 <= stage["seconds"] < 600
        assert 50 < stage["peak_memory_mb"] < 100_000


def test_the_manifest_tells_how_good_the_model_is(manifest):
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


def test_training_leaves_one_line_per_epoch(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["ce"] < lines[0]["ce"]


def test_the_resolved_config_is_the_manifests_options_and_a_valid_config(finished, manifest):
    resolved = CompressConfig.model_validate(load_config(finished / "config.resolved.toml"))
    assert resolved.model_dump(mode="json", exclude_none=True) == manifest["options"]
    assert None not in {resolved.epochs, resolved.lr, resolved.img_size, resolved.augment, resolved.threads}


@pytest.fixture
def stopped_mid_epoch(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Training raises KeyboardInterrupt in the fourth epoch; counts vision transformers at the first step."""
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
def test_a_stopped_run_goes_on_with_the_command_it_printed(
    cli, tiny, finished, stopped_mid_epoch, tmp_path, monkeypatch
):
    before = _transformers()
    out = tmp_path / "my runs" / "a"
    result = cli(*tiny(cache_dir=tmp_path / "fresh"), "--out", out)
    assert result.exit_code == 130, result.stderr
    assert "Traceback" not in result.output
    assert stopped_mid_epoch["transformers"] == before, "the teacher is still in memory while the student trains"
    assert "teacher pass: " in (out / "train.log").read_text(), "the teacher was never loaded: no proof"
    assert not (out / "export").exists()
    assert not (out / "manifest.json").exists()
    monkeypatch.undo()
    command = shlex.split(result.stderr.split("go on with: tcs-edge ")[1].splitlines()[0])
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
def test_a_run_that_goes_on_hears_the_soft_labels_that_it_heard_before(
    cli, tiny, stopped_mid_epoch, tmp_path, monkeypatch
):
    """They may come from the student's own features before training, which are gone once it is trained."""
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
    said = [set(re.findall("soft labels: student probe [1-9].*", (run / "train.log").read_text())) for run in runs]
    assert said[0] == said[1]
    assert len(said[0]) == 1


@pytest.mark.slow
def test_a_run_stopped_in_the_export_goes_on_without_training_again(cli, tiny, finished, tmp_path, monkeypatch):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "export_onnx", stop)
        assert cli(*tiny(), "--out", out).exit_code == 130
    monkeypatch.setattr(pipeline, "train_student", stop)
    again = cli("compress", "--resume", out)
    assert again.exit_code == 0, again.stderr
    assert files_of(out) == FINISHED_FILES
    deployed = "checkpoints/deployed.safetensors"
    assert (out / deployed).read_bytes() == (finished / deployed).read_bytes()


def test_the_log_holds_what_was_said_before_there_was_a_folder(finished):
    lines = (finished / "train.log").read_text().splitlines()
    assert " INFO images: photos" in lines[0]
    assert any(" INFO student: lcnet_050 " in line for line in lines)
    assert any(" INFO exporting ONNX" in line for line in lines)


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        ({"teacher": "dinov22"}, 2, "Did you mean dinov2"),
        ({"student": "lcnet_05"}, 2, "Did you mean lcnet_0"),
        ({"teacher_weights": "no.safetensors"}, 4, "no such weights file"),
        ({"student_init": "no.safetensors"}, 4, "no such weights file"),
        ({"device": "abacus"}, 2, "--device abacus"),
        ({"out": Path(__file__).parent}, 2, "not empty"),
    ],
)
def test_a_typo_is_told_before_the_images_are_read(cli, tiny, monkeypatch, wrong, code, said):
    def read(*_arguments: object) -> None:
        raise AssertionError("the images were read first")

    monkeypatch.setattr(preparation, "load_images", read)
    result = cli(*tiny(**wrong))
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_an_export_that_differs_is_never_called_deployable(cli, tiny, tmp_path, monkeypatch):
    right = pipeline.export_onnx

    def wrong(model, *arguments, **options):
        spoilt = copy.deepcopy(model)
        list(spoilt.parameters())[-1].data[0] += 1.0
        return right(spoilt, *arguments, **options)

    monkeypatch.setattr(pipeline, "export_onnx", wrong)
    out = tmp_path / "run"
    result = cli(*tiny(epochs=1), "--out", out)
    assert result.exit_code == 1
    assert "verdict: fail" in result.stdout
    assert "NOT DEPLOYABLE" in result.stdout
    assert not (out / "export").exists()
    assert not (out / "export.unproven").exists()
    rejected = files_of(out / "export.REJECTED")
    assert rejected
    assert all(name.endswith(".rejected") for name in rejected)
    assert json.loads((out / "manifest.json").read_text())["verdict"] == "fail"
    for command in (("validate", out), ("predict", out, out / "train.log")):
        assert cli(*command).exit_code == 1


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(cli, tiny, tmp_path):
    result = cli(*tiny(lr=1e30, epochs=2), "--out", tmp_path / "run")
    assert result.exit_code == 1, result.stderr
    assert "at step" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
    assert not (tmp_path / "run" / "export").exists()


@pytest.mark.slow
def test_real_photos_a_real_teacher_and_a_pretrained_student(cli, shared_folder, tmp_path):
    weights = shared_folder / "weights"
    for part, count in {"train": 10, "val": 2, "test": 5}.items():
        for folder in sorted((shared_folder / "data" / "eurosat" / part).iterdir()):
            (tmp_path / "photos" / part / folder.name).mkdir(parents=True)
            for picture in sorted(folder.iterdir())[:count]:
                shutil.copy(picture, tmp_path / "photos" / part / folder.name)
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
    assert manifest["accuracy"]["onnxruntime"]["low"] > 0.1, "no better than guessing one of ten classes"


def test_the_deployed_weights_hold_one_folded_layer(finished):
    state = load_file(finished / "checkpoints" / "deployed.safetensors")
    heads = [name for name in state if name.startswith("1.")]
    assert sorted(heads) == ["1.bias", "1.weight"]
    assert state["1.weight"].shape[0] == 3
