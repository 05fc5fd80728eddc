"""`tcs-edge compress` as a user meets it: what it prints, and how it refuses."""

from __future__ import annotations

import json
import pickle
import shutil
import time
from pathlib import Path

import pytest


def refusal(result, exit_code: int) -> str:
    """The one line on stderr that a refused command ends with."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]


def test_json_is_one_document_and_nothing_else(finished_result, finished, manifest):
    document = json.loads(finished_result.stdout)
    assert document.pop("run") == str(finished)
    assert document == manifest
    assert "verdict" not in finished_result.stderr
    assert "student: lcnet_050" in finished_result.stderr


@pytest.mark.usefixtures("offline")
def test_a_dry_run_writes_nothing_and_names_downloads(cli, tiny, tmp_path, monkeypatch):
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
    assert list(place.iterdir()) == []
    spoken = cli(*arguments, "--dry-run")
    assert spoken.stdout.count("would download: ") == 2
    assert list(place.iterdir()) == []


def test_a_dry_run_with_everything_at_hand_names_no_download(cli, tiny):
    plan = json.loads(cli(*tiny(), "--dry-run", "--json").stdout)
    assert plan["downloads"] == []


def test_no_target_says_which_there_are(cli, photos):
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
def test_wrong_usage_is_one_line_that_helps(cli, tiny, tmp_path, change, named):
    assert named in refusal(cli(*tiny(**change), "--out", tmp_path / "run"), 2)
    assert not (tmp_path / "run").exists(), "a command that never started left a folder"


def test_constraints_nothing_meets_show_the_nearest_student(cli, tiny, tmp_path):
    message = refusal(cli(*tiny(student="auto", max_params_m=0.01), "--out", tmp_path / "run"), 2)
    assert "param" in message
    assert not (tmp_path / "run").exists()


def test_cuda_without_cuda(cli, tiny, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert "--device cuda" in refusal(cli(*tiny(device="cuda"), "--out", tmp_path / "run"), 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", [("--epoch", "3"), ("--teacher-wieghts", "x")])
def test_an_unknown_flag(cli, tiny, flag):
    result = cli(*tiny(), *flag)
    assert result.exit_code == 2
    assert flag[0] in result.stderr
    assert result.stdout == ""


def test_a_folder_that_is_not_there(cli, tiny, tmp_path):
    assert str(tmp_path / "none") in refusal(cli(*tiny(data=tmp_path / "none")), 3)


def test_a_file_instead_of_a_folder(cli, tiny, photos):
    refusal(cli(*tiny(data=photos / "train" / "red" / "01.png")), 3)


def test_one_class_only(cli, tiny, own_photos):
    for part in ("train", "val", "test"):
        for name in ("blue", "green"):
            shutil.rmtree(own_photos / part / name)
    assert "class" in refusal(cli(*tiny(data=own_photos)), 3)


def test_an_empty_class(cli, tiny, own_photos):
    for picture in (own_photos / "train" / "red").iterdir():
        picture.unlink()
    assert "red" in refusal(cli(*tiny(data=own_photos)), 3)


def test_too_many_files_that_are_no_images(cli, tiny, own_photos):
    for index in range(3):
        (own_photos / "train" / "red" / f"fake{index}.png").write_text("no picture")
    assert "fake0.png" in refusal(cli(*tiny(data=own_photos)), 3)


def test_one_file_that_is_no_image_is_skipped_and_told(cli, tiny, own_photos):
    (own_photos / "train" / "red" / "fake.png").write_text("no picture")
    result = cli(*tiny(data=own_photos), "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "fake.png" in result.stderr
    assert "72 train" in result.stderr


def test_an_out_folder_with_something_in_it_is_left_alone(cli, tiny, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    assert "not empty" in refusal(cli(*tiny(), "--out", tmp_path), 2)
    assert "not a run folder" in refusal(cli(*tiny(), "--out", tmp_path, "--overwrite"), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_overwrite_replaces_a_run(cli, tiny, own_run):
    assert "--overwrite" in refusal(cli(*tiny(), "--out", own_run), 2)
    assert (own_run / "export" / "model.onnx").exists()
    result = cli(*tiny(lr=1e30, epochs=1), "--out", own_run, "--overwrite")
    assert result.exit_code == 1, "the new run was made to diverge"
    assert not (own_run / "export").exists()


@pytest.mark.parametrize("flag", ["teacher_weights", "student_init"])
def test_a_pickle_is_refused(cli, tiny, tmp_path, flag):
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
def test_weights_that_are_not_there(cli, tiny, tmp_path, change, flag):
    started = time.process_time()
    message = refusal(cli(*tiny(**change), "--out", tmp_path / "run"), 4)
    assert flag in message
    assert ".safetensors" in message
    assert time.process_time() - started < 10
    assert not (tmp_path / "run").exists(), "a command that never started left a folder"


def test_a_teacher_file_of_another_model(cli, tiny, finished, tmp_path):
    other = finished / "checkpoints" / "deployed.safetensors"
    message = refusal(cli(*tiny(teacher_weights=other, cache_dir=tmp_path / "cache"), "--out", tmp_path / "run"), 3)
    assert "does not fit" in message


@pytest.mark.parametrize(
    ("text", "named"), [("epoch = 3", "epochs"), ("[tcs]\ndimms = 3", "dims"), ("epochs = ", "not TOML")]
)
def test_a_config_file_with_a_mistake(cli, tmp_path, text, named):
    path = tmp_path / "run.toml"
    path.write_text(f'target = "raspberrypi4"\n{text}\n')
    assert named in refusal(cli("compress", "--config", path), 2)


@pytest.mark.parametrize("name", ["none.toml", "."])
def test_a_config_file_that_is_no_file(cli, tmp_path, name):
    refusal(cli("compress", "--config", tmp_path / name), 2)


def test_resuming_takes_no_other_options(cli, finished):
    assert "--epochs" in refusal(cli("compress", "--resume", finished, "--epochs", 9), 2)
    assert "nothing to resume" in refusal(cli("compress", "--resume", finished), 2)


def test_resuming_what_is_no_run(cli, tmp_path):
    assert "not a run folder" in refusal(cli("compress", "--resume", tmp_path), 3)
    assert "no such" in refusal(cli("compress", "--resume", tmp_path / "none"), 3)


def test_our_own_bug_is_called_one(cli, tiny, monkeypatch):
    import tcs_edge.pipeline.run

    def broken(*arguments: object) -> Path:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr(tcs_edge.pipeline.run, "list_students", broken)
    result = cli(*tiny())
    assert result.exit_code == 70
    assert "a slip" in result.stderr
    assert "bug in tcs-edge" in result.stderr.splitlines()[-1]


def test_a_run_keeps_what_the_student_was_chosen_by(finished, manifest):
    choice = json.loads((finished / "reports" / "choice.json").read_text())
    entry = choice["candidates"][0]
    assert (choice["img_size"], entry["name"], entry["chosen"]) == (64, "lcnet_050", True)
    assert any(candidate["on_pareto_front"] for candidate in choice["candidates"])
    student = manifest["student"]
    assert entry["latency"] == student["latency"]
    assert entry["expected_accuracy"] == student["expected_accuracy"]
    assert student["expected_accuracy"]["search"] == "table"
    assert manifest["options"]["search"] == "table"
