"""Weights of one student choose it: by tensors, whatever the name of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tcs_edge.errors import DataError, MissingError, UsageError
from tcs_edge.students.recognize import only_file, student_of


def saved(path: Path, name: str, classes: int = 1000, prefix: str = "", **options) -> Path:
    state = timm.create_model(name, num_classes=classes, **options).state_dict()
    save_file({prefix + key: tensor.contiguous() for key, tensor in state.items()}, path)
    return path


@pytest.mark.parametrize(
    ("name", "classes", "prefix"),
    [
        ("lcnet_050", 1000, ""),
        ("mobilenetv3_small_050", 0, ""),
        ("repghostnet_100", 7, "module."),
        ("mobileone_s0", 0, ""),
        ("levit_128s", 0, "model."),
        ("xcit_nano_12_p16_224", 10, ""),
    ],
)
def test_the_tensors_name_the_student(tmp_path, name, classes, prefix):
    assert student_of(saved(tmp_path / "best.safetensors", name, classes, prefix)) == name


def test_half_precision_and_another_image_size_are_recognized(tmp_path):
    state = timm.create_model("xcit_nano_12_p16_224", num_classes=0).half().state_dict()
    save_file(state, tmp_path / "half.safetensors")
    assert student_of(tmp_path / "half.safetensors") == "xcit_nano_12_p16_224"
    saved(tmp_path / "levit.safetensors", "levit_128s", img_size=96)
    assert student_of(tmp_path / "levit.safetensors") == "levit_128s"


def test_the_name_of_the_file_decides_among_equal_networks(tmp_path):
    same = saved(tmp_path / "best.safetensors", "deit_tiny_patch16_224")
    with pytest.raises(UsageError, match="fits 2 students: deit_tiny_patch16_224, vit_tiny_patch16_224"):
        student_of(same)
    for stem in ("vit_tiny_patch16_224", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"):
        assert student_of(same.rename(tmp_path / f"{stem}.safetensors")) == "vit_tiny_patch16_224"
        same = tmp_path / f"{stem}.safetensors"
    misnamed = same.rename(tmp_path / "lcnet_050.safetensors")
    with pytest.raises(UsageError, match="fits 2 students"):
        student_of(misnamed)


def test_weights_of_another_network_ask_for_its_name(tmp_path):
    other = saved(tmp_path / "a.safetensors", "test_vit")
    with pytest.raises(UsageError, match="Pass --student NAME"):
        student_of(other)
    save_file({"a": torch.zeros(2)}, tmp_path / "b.safetensors")
    with pytest.raises(UsageError, match="has the tensors of none"):
        student_of(tmp_path / "b.safetensors")


def test_files_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(MissingError, match="no such weights file"):
        student_of(tmp_path / "gone.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((99).to_bytes(8, "little") + b"{")
    with pytest.raises(DataError, match="Copy it again"):
        student_of(tmp_path / "cut.safetensors")


def test_a_folder_counts_if_it_has_one_file(tmp_path):
    assert only_file(tmp_path) is None
    (tmp_path / "a.safetensors").write_bytes(b"")
    (tmp_path / "README.md").write_bytes(b"")
    assert only_file(tmp_path) == tmp_path / "a.safetensors"
    (tmp_path / "b.safetensors").write_bytes(b"")
    assert only_file(tmp_path) is None


@pytest.mark.parametrize("in_folder", [False, True])
def test_a_run_takes_the_student_of_its_weights(cli, tiny, tmp_path, in_folder):
    path = saved(tmp_path / "mine.safetensors", "lcnet_075", 0)
    place = tmp_path if in_folder else path
    result = cli(*tiny(student=None, student_init=place), "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "student: lcnet_075 (the tensors of mine.safetensors are those of this student)" in result.stderr
    assert "lcnet_075 at 64 px" in result.stderr


def test_a_student_over_the_limits_stops_the_run(cli, tiny, tmp_path):
    path = saved(tmp_path / "mine.safetensors", "lcnet_100", 0)
    result = cli(*tiny(student=None, student_init=path, max_params_m=1), "--dry-run")
    assert result.exit_code == 2, result.stderr
    assert "lcnet_100" in result.stderr.splitlines()[-1]
    assert "over the 1 M limit" in result.stderr.splitlines()[-1]
