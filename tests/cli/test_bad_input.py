"""Tests of messages and exit codes for unusable teachers, classes and shots."""

from __future__ import annotations

import shutil

import pytest
from safetensors.torch import load_file, save_file


def refusal(result) -> str:
    assert result.exit_code == 3, result.output
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


@pytest.fixture
def spoiled(teacher_file, tmp_path):
    """spoiled("norm.bias", nan): file of the tiny teacher with one weight filled with one value."""

    def spoil(weight: str, value: float):
        state = load_file(teacher_file)
        state[weight].fill_(value)
        path = tmp_path / "spoiled.safetensors"
        save_file(state, path)
        return path

    return spoil


@pytest.mark.parametrize(
    ("weight", "value", "message"),
    [
        ("norm.weight", 3e38, "give NaN or Inf"),
        ("norm.weight", 0.0, "are the same for different images"),
    ],
)
def test_teacher_with_unusable_features(cli, tiny, spoiled, tmp_path, weight, value, message):
    run = tmp_path / "run"
    line = refusal(cli(*tiny(teacher_weights=spoiled(weight, value)), "--out", run))
    assert message in line
    assert "another --teacher" in line
    assert not (run / "export").exists()


def test_class_in_the_test_split_only(cli, tiny, own_photos, tmp_path):
    shutil.rmtree(own_photos / "train" / "red")
    line = refusal(cli(*tiny(data=own_photos), "--out", tmp_path / "run"))
    assert "classes that train lacks: red" in line
    assert not (tmp_path / "run").exists()


def test_class_with_only_damaged_training_images(cli, tiny, own_photos, tmp_path):
    for path in (own_photos / "train" / "red").iterdir():
        path.unlink()
    (own_photos / "train" / "red" / "00.jpg").write_bytes(b"not an image")
    for number in range(100):  # one damaged image among many is skipped, unless it is the only one of its class
        shutil.copy(own_photos / "train" / "blue" / "00.jpg", own_photos / "train" / "blue" / f"copy{number}.jpg")
    line = refusal(cli(*tiny(data=own_photos), "--out", tmp_path / "run"))
    assert "class 'red' has no readable images" in line


def test_more_shots_than_images_of_a_class(cli, tiny, own_photos, tmp_path):
    for path in sorted((own_photos / "train" / "green").iterdir())[5:]:
        path.unlink()
    line = refusal(cli(*tiny(data=own_photos), "--shots", 6, "--out", tmp_path / "run"))
    assert "class 'green' has 5 training images, --shots asks for 6" in line
    assert "--shots 5 or less" in line
    assert not (tmp_path / "run").exists()


def test_plan_counts_drawn_images(cli, tiny):
    planned = cli(*tiny(), "--shots", 2, "--dry-run")
    assert planned.exit_code == 0, planned.stderr
    assert "3 classes, 6 train, 24 validation, 36 test" in planned.stderr
