"""Tests of arrays in files: same values as in memory, no file left, and a full disk is one message."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tcs_edge.errors import MissingError
from tcs_edge.utils import row_array as module
from tcs_edge.utils.row_array import row_array, stored_rows

PARTS = [np.arange(12.0).reshape(4, 3), np.arange(6.0).reshape(2, 3) / 7]


@pytest.mark.parametrize("reserve", ["allocated", "written"])
@pytest.mark.parametrize("limit", [0, 10**6], ids=["file", "memory"])
def test_rows_are_the_same_in_a_file_and_in_memory(tmp_path, monkeypatch, limit, reserve):
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", limit)
    if reserve == "written":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    rows = stored_rows(iter(PARTS), 6, np.float16, tmp_path / "new")
    assert isinstance(rows, np.memmap) == (limit == 0)
    np.testing.assert_array_equal(rows, np.concatenate(PARTS).astype(np.float16))
    assert not row_array((5, 2), np.uint8, tmp_path).any()
    assert not [path for path in Path(tmp_path).rglob("*") if path.is_file()]


def test_another_number_of_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="6 rows instead of 7"):
        stored_rows(PARTS, 7, np.float16, tmp_path)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves no space")
def test_a_full_disk_is_one_message(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MissingError, match="the disk is full"):
        row_array((5, 2), np.uint8, tmp_path)
