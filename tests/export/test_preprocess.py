"""Files labels.txt and preprocess.json: written and read without loss."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import DataError
from tcs_edge.export.preprocess import read_labels, require_labels, write_labels, write_preprocess

BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
names = st.text(st.characters(exclude_characters=BREAKS, exclude_categories=["Cs"]), min_size=1)


@given(st.lists(names, min_size=1, unique=True))
def test_labels_are_read_as_written(labels):
    with tempfile.TemporaryDirectory() as folder:
        path = write_labels(Path(folder) / "labels.txt", labels)
        assert read_labels(path) == tuple(labels)
        assert path.read_text(encoding="utf-8").splitlines() == labels


@pytest.mark.parametrize("mark", BREAKS)
def test_a_line_break_in_a_class_name_is_refused(mark, tmp_path):
    with pytest.raises(DataError, match="line break"):
        write_labels(tmp_path / "labels.txt", ["cat", f"do{mark}g"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("labels", [[], [""], ["cat", "dog", "cat"], ["cat\n"]])
def test_empty_and_repeated_labels_are_refused(labels):
    with pytest.raises(DataError):
        require_labels(labels)


def test_a_missing_labels_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"labels\.txt"):
        read_labels(tmp_path / "labels.txt")


def test_preprocess_is_read_as_written(tmp_path):
    wanted = Preprocess(img_size=96, crop_pct=0.875, interpolation="bicubic")
    path = write_preprocess(tmp_path / "preprocess.json", wanted.to_json())
    assert Preprocess.from_json(json.loads(path.read_text(encoding="utf-8"))) == wanted
