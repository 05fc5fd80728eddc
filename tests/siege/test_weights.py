"""Weights files that are no weights: one line, and nothing waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcs_edge.errors import DataError, MissingError, UsageError
from tcs_edge.models.safetensors_file import check_safetensors

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
