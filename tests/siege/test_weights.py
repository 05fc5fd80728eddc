"""Weights files that are no weights: one line, and nothing waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tcs_edge.errors import DataError, MissingError, UsageError
from tcs_edge.models.safetensors_file import check_safetensors, read_state
from tcs_edge.students.build import local_file
from tcs_edge.teachers.load import build_teacher, describe_teacher

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def test_a_git_lfs_pointer_is_named(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(POINTER)
    with pytest.raises(DataError, match=r"is a Git LFS pointer, not the file itself\. Run: git lfs pull"):
        check_safetensors(path, "--teacher-weights")


def test_a_pipe_and_a_device_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "device.safetensors").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(UsageError, match="is not a regular file"):
            check_safetensors(tmp_path / f"{name}.safetensors", "--teacher-weights")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "gone"])
def test_a_path_that_the_system_refuses_is_missing(name):
    with pytest.raises(MissingError, match="no such weights file"):
        check_safetensors(Path(f"{name}.safetensors"), "--teacher-weights")


def test_a_long_path_of_a_student_is_missing():
    with pytest.raises(MissingError, match="no such weights file"):
        local_file("test_resnet", Path("a" * 5000))


def test_complex_weights_are_refused(tmp_path):
    save_file({"a": torch.ones(2, dtype=torch.complex64)}, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="complex"):
        read_state(tmp_path / "a.safetensors", {"a"})


def test_teacher_weights_with_another_axis_are_refused_in_one_line(tmp_path, teacher_file):
    path = tmp_path / "a.safetensors"
    save_file({key: torch.zeros(*tensor.shape, 1) for key, tensor in load_file(teacher_file).items()}, path)
    with pytest.raises(DataError, match="of another shape"):
        build_teacher(describe_teacher("timm/test_vit", path, 64))
