"""Detection of image folders from names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcs_edge.data.detect import detect_image_folders


def pictures(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "one.JPG").touch()


def found(here: Path) -> list[str]:
    return [f"{folder.path.relative_to(here).as_posix()} {folder.layout} {folder.classes}"
            for folder in detect_image_folders(here)]  # fmt: skip


def test_splits_and_subfolders_come_first(tmp_path):
    pictures(tmp_path / "z" / "train" / "a", tmp_path / "z" / "train" / "b", tmp_path / "z" / "valid" / "a")
    pictures(tmp_path / "a" / "cat", tmp_path / "a" / "dog")
    assert found(tmp_path) == ["z splits 2", "a classes 2"]


def test_the_current_folder_is_detected(tmp_path):
    pictures(tmp_path / "train" / "a", tmp_path / "train" / "b", tmp_path / "test" / "a")
    assert found(tmp_path) == [". splits 2", "train classes 2"]


@pytest.mark.parametrize("names", [(), ("one",), (".hidden/a", ".hidden/b"), ("x/train/a", "x/train/b")])
def test_other_folders_are_not_detected(tmp_path, names):
    pictures(*(tmp_path / name for name in names))
    (tmp_path / "docs" / "x").mkdir(parents=True)
    (tmp_path / "docs" / "x" / "a.txt").touch()
    assert "docs" not in " ".join(found(tmp_path))
    assert not any(line.startswith((".", "one", "x ")) for line in found(tmp_path))
