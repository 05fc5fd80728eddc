"""Tests of the output, messages and exit codes of `tcs-edge compress`."""

from __future__ import annotations

import json
import pickle
import shutil
import time
from pathlib import Path

import pytest


def refusal(result, exit_code: int) -> str:
    """Return the error, the last line on stderr of a failed command."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]


def test_json_output_is_one_document(finished_result, finished, manifest):
    document = json.loads(finished_result.stdout)
    assert document.pop("run") == str(finished)
    assert document == manifest
    assert "verdict" not in finished_result.stderr
    assert "student: lcnet_050" in finished_result.stderr


@pytest.mark.usefixtures("offline")
def test_dry_run_writes_nothing_and_lists_downloads(cli, tiny, tmp_path, monkeypatch):
    place = tmp_path / "empty"
    place.mkdir()
    monkeypatch.chdir(place)
    arguments = tiny(teacher_weights=None, student_init="pretrained", cache_dir=place / "cache")
    result = cli(*arguments, "--out", place / "run", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)
    assert [stage["name"] for stage in plan["stages"]] == ["teacher", "distill", "export and validate"]
    downloads = " ".join(plan["downloads"])
    assert "teacher timm/test_vit" in downloads
    assert "student lcnet_050" in downloads
    assert [path.name for path in place.rglob("*") if path.is_file()] == ["intake.sqlite3"]  # the check of the images
    table = cli(*arguments, "--dry-run")
    assert table.stdout.count("would download: ") == 2
    assert list(place.iterdir()) == [place / "cache"]


def test_dry_run_with_local_weights_lists_no_download(cli, tiny):
    plan = json.loads(cli(*tiny(), "--dry-run", "--json").stdout)
    assert plan["downloads"] == []


def test_missing_target_names_the_flag(cli, photos):
    assert "--target" in refusal(cli("compress", "--data", photos), 2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"target": "raspberypi4"}, "raspberrypi4"),
        ({"teacher": "dinov22", "teacher_weights": None}, "dinov2"),
        ({"student": "lcnet_05"}, "lcnet_050"),
        ({"method": "tsc"}, "tcs"),
        ({"augment": "flip"}, "crop-flip"),
        ({"epochs": 0}, "epochs"),
        ({"lr": -1}, "lr"),
        ({"max_latency_ms": 0.001}, "Raise --max-latency-ms"),
        ({"max_size_mb": 0.001}, "Raise --max-size-mb"),
        ({"device": "tpu"}, "cpu"),
        ({"amp": "fp16"}, "--amp bf16"),
        ({"amp": "fp8"}, "Known: auto, no, bf16"),
        ({"mixup": -1}, "mixup"),
        ({"rand_augment": 31}, "rand_augment"),
    ],
)
def test_wrong_usage_prints_one_line_with_the_fix(cli, tiny, tmp_path, change, named):
    assert named in refusal(cli(*tiny(**change), "--out", tmp_path / "run"), 2)
    assert not (tmp_path / "run").exists(), "a command that never started left a folder"


def test_limits_that_no_student_meets_show_the_nearest_student(cli, tiny, tmp_path):
    message = refusal(cli(*tiny(student="auto", max_params_m=0.01), "--out", tmp_path / "run"), 2)
    assert "param" in message
    assert not (tmp_path / "run").exists()


def test_device_cuda_on_a_machine_without_cuda(cli, tiny, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert "--device cuda" in refusal(cli(*tiny(device="cuda"), "--out", tmp_path / "run"), 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", [("--epoch", "3"), ("--teacher-wieghts", "x")])
def test_unknown_flag(cli, tiny, flag):
    result = cli(*tiny(), *flag)
    assert result.exit_code == 2
    assert flag[0] in result.stderr
    assert result.stdout == ""


def test_missing_image_folder(cli, tiny, tmp_path):
    assert str(tmp_path / "none") in refusal(cli(*tiny(data=tmp_path / "none")), 3)


def test_file_instead_of_image_folder(cli, tiny, photos):
    refusal(cli(*tiny(data=photos / "train" / "red" / "01.png")), 3)


def test_single_class(cli, tiny, own_photos):
    for part in ("train", "val", "test"):
        for name in ("blue", "green"):
            shutil.rmtree(own_photos / part / name)
    assert "class" in refusal(cli(*tiny(data=own_photos)), 3)


def test_empty_class(cli, tiny, own_photos):
    for image in (own_photos / "train" / "red").iterdir():
        image.unlink()
    assert "red" in refusal(cli(*tiny(data=own_photos)), 3)


def test_too_many_unreadable_images(cli, tiny, own_photos):
    for index in range(3):
        (own_photos / "train" / "red" / f"fake{index}.png").write_text("not an image")
    assert "fake0.png" in refusal(cli(*tiny(data=own_photos)), 3)


def test_one_unreadable_image_is_skipped_with_a_warning(cli, tiny, own_photos):
    (own_photos / "train" / "red" / "fake.png").write_text("not an image")
    result = cli(*tiny(data=own_photos), "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "fake.png" in result.stderr
    assert "72 train" in result.stderr


def test_out_folder_with_other_files_is_left_unchanged(cli, tiny, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    assert "not empty" in refusal(cli(*tiny(), "--out", tmp_path), 2)
    assert "not a run folder" in refusal(cli(*tiny(), "--out", tmp_path, "--overwrite"), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_overwrite_replaces_a_run(cli, tiny, own_run):
    assert "--overwrite" in refusal(cli(*tiny(), "--out", own_run), 2)
    assert (own_run / "export" / "model.onnx").exists()
    result = cli(*tiny(lr=1e30, epochs=1), "--out", own_run, "--overwrite")
    assert result.exit_code == 1, "the new run diverges on purpose"
    assert not (own_run / "export").exists()


@pytest.mark.parametrize("flag", ["teacher_weights", "student_init"])
def test_pickled_weights_are_rejected(cli, tiny, tmp_path, flag):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pickle.dumps({"weight": [1.0]}, protocol=4))
    assert "pickle" in refusal(cli(*tiny(**{flag: path}), "--out", tmp_path / "run"), 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"teacher": "dinov2", "teacher_weights": None}, "--teacher-weights"),
        ({"student_init": "pretrained"}, "--student-init"),
        ({"teacher_weights": "nowhere.safetensors"}, "--teacher-weights"),
        ({"student_init": "nowhere.safetensors"}, "--student-init"),
    ],
)
def test_missing_weights_name_flag_and_file(cli, tiny, tmp_path, change, flag):
    started = time.process_time()
    message = refusal(cli(*tiny(**change), "--out", tmp_path / "run"), 4)
    assert flag in message
    assert ".safetensors" in message
    assert time.process_time() - started < 10
    assert not (tmp_path / "run").exists(), "a command that never started left a folder"


def test_teacher_weights_of_another_model(cli, tiny, finished, tmp_path):
    other = finished / "checkpoints" / "deployed.safetensors"
    message = refusal(cli(*tiny(teacher_weights=other, cache_dir=tmp_path / "cache"), "--out", tmp_path / "run"), 3)
    assert "does not fit" in message


@pytest.mark.parametrize(
    ("text", "named"), [("epoch = 3", "epochs"), ("[tcs]\ndimms = 3", "dims"), ("epochs = ", "not TOML")]
)
def test_config_file_with_an_error(cli, tmp_path, text, named):
    path = tmp_path / "run.toml"
    path.write_text(f'target = "raspberrypi4"\n{text}\n')
    assert named in refusal(cli("compress", "--config", path), 2)


@pytest.mark.parametrize("name", ["none.toml", "."])
def test_missing_config_file(cli, tmp_path, name):
    refusal(cli("compress", "--config", tmp_path / name), 2)


def test_resume_rejects_other_options(cli, finished):
    assert "--epochs" in refusal(cli("compress", "--resume", finished, "--epochs", 9), 2)
    assert "nothing to resume" in refusal(cli("compress", "--resume", finished), 2)


def test_resume_of_a_folder_that_is_not_a_run(cli, tmp_path):
    assert "has no run: it stopped at its start" in refusal(cli("compress", "--resume", tmp_path), 3)
    (tmp_path / "notes.txt").write_text("mine")
    assert "not a run folder" in refusal(cli("compress", "--resume", tmp_path), 3)
    assert "no such" in refusal(cli("compress", "--resume", tmp_path / "none"), 3)


def test_unexpected_exception_is_reported_as_bug(cli, tiny, monkeypatch):
    import tcs_edge.pipeline.processes

    def broken(*arguments: object, **options: object) -> Path:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr(tcs_edge.pipeline.processes, "list_students", broken)
    result = cli(*tiny())
    assert result.exit_code == 70
    assert "a slip" in result.stderr
    assert "bug in tcs-edge" in result.stderr.splitlines()[-1]


def test_run_records_the_choice_of_the_student(finished, manifest):
    choice = json.loads((finished / "reports" / "choice.json").read_text())
    entry = choice["candidates"][0]
    assert (choice["img_size"], entry["name"], entry["chosen"]) == (64, "lcnet_050", True)
    assert any(candidate["on_pareto_front"] for candidate in choice["candidates"])
    student = manifest["student"]
    assert entry["latency"] == student["latency"]
    assert entry["expected_accuracy"] == student["expected_accuracy"]
    assert student["expected_accuracy"]["search"] == "table"
    assert manifest["options"]["search"] == "table"
