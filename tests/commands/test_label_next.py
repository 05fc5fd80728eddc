"""`label-next`: the ranked list, its determinism, and bad input."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcs_edge.commands.label_next import _require_classes
from tcs_edge.errors import DataError
from tcs_edge.labels.next_images import next_images, typical_images, uncertain_images, uncertainty


@pytest.fixture
def words(photos: Path, tmp_path: Path) -> list[Any]:
    """The arguments of a call: photos with labels, and copies of other sizes without."""
    from PIL import Image

    unsorted = tmp_path / "unsorted"
    unsorted.mkdir()
    for number, path in enumerate(sorted(photos.rglob("*.*"))[::4]):
        with Image.open(path) as image:
            image.convert("RGB").resize((40, 40)).save(unsorted / f"{number:03}.png")
    return ["label-next", "--data", photos, "--unlabeled", unsorted, "--teacher", "digits", "--cache-dir",
            tmp_path / "cache", "--workers", 0]  # fmt: skip


def test_the_list_names_files_with_reasons_and_is_the_same_again(cli: Any, words: list[Any], tmp_path: Path) -> None:
    first = cli(*words, "-n", 5, "--json", "--out", tmp_path / "next.csv")
    assert first.exit_code == 0, first.stderr
    found = json.loads(first.stdout)
    paths = [one["path"] for one in found["images"]]
    assert len(set(paths)) == 5
    assert all(Path(path).is_file() and Path(path).parent.name == "unsorted" for path in paths)
    with (tmp_path / "next.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["path"] for row in rows] == paths
    assert [row["reason"] for row in rows] == [one["reason"] for one in found["images"]]
    text = cli(*words, "-n", 5).stdout.splitlines()
    assert len(text) == 5
    assert all(path in line for path, line in zip(paths, text, strict=True))


def test_too_many_images_are_one_line(cli: Any, words: list[Any]) -> None:
    result = cli(*words, "-n", 5000)
    assert result.exit_code == 2
    assert "-n 5000 exceeds the" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_unlabeled_images_are_one_line(cli: Any, words: list[Any], photos: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for folder in (tmp_path / "none", photos, tmp_path / "missing"):
        words[4] = folder
        result = cli(*words)
        assert result.exit_code == 3, result.stderr
        assert result.stderr.splitlines()[-1].startswith("error: ")


def test_a_missing_flag_is_one_line(cli: Any, words: list[Any], tmp_path: Path) -> None:
    result = cli(*words[:3], *words[5:])
    assert result.exit_code == 2
    assert "Pass --unlabeled" in result.stderr
    result = cli(words[0], *words[3:], "--run", tmp_path)
    assert result.exit_code == 2
    assert "Pass --data" in result.stderr


def test_without_any_label_typical_images_are_chosen(cli: Any, words: list[Any], tmp_path: Path) -> None:
    cold = [words[0], *words[3:]]
    first = cli(*cold, "-n", 4, "--json", "--out", tmp_path / "next.csv")
    assert first.exit_code == 0, first.stderr
    found = json.loads(first.stdout)
    assert (found["labeled"], found["unlabeled"]) == (0, len(list(words[4].iterdir())))
    assert {one["kind"] for one in found["images"]} == {"typical"}
    assert {one["guess"] for one in found["images"]} == {""}
    assert len({one["path"] for one in found["images"]}) == 4
    assert json.loads(cli(*cold, "-n", 4, "--json").stdout) == found
    assert cli(*cold, "-n", 5000).exit_code == 2
    (tmp_path / "none").mkdir()
    assert cli(words[0], "--unlabeled", tmp_path / "none").exit_code == 3


def test_one_class_is_one_line(cli: Any, words: list[Any], photos: Path, tmp_path: Path) -> None:
    one = next(path for path in sorted(photos.rglob("*")) if path.is_dir() and any(path.glob("*.*")))
    shutil.copytree(one, tmp_path / "single" / one.name)
    words[2] = tmp_path / "single"
    result = cli(*words)
    assert result.exit_code == 3, result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_a_run_of_other_classes_is_refused() -> None:
    _require_classes(Path("RUN"), ("b", "a"), ("a", "b"))
    with pytest.raises(DataError, match=r"classes of RUN and of --data differ \(c, d\)"):
        _require_classes(Path("RUN"), ("a", "b", "d"), ("a", "b", "c"))


def blobs(sizes: list[int]) -> np.ndarray:
    generator = np.random.default_rng(0)
    centers = 10 * np.eye(8)[: len(sizes)]
    return np.concatenate(
        [center + generator.normal(size=(size, 8)) for size, center in zip(sizes, centers, strict=True)]
    )


def test_typical_images_come_from_the_largest_groups_without_a_label() -> None:
    rows = blobs([60, 40, 20, 10])
    group = np.repeat(np.arange(4), [60, 40, 20, 10])
    assert [group[one.position] for one in typical_images(rows, np.array([], np.int64), 4)] == [0, 1, 2, 3]
    chosen = typical_images(rows, np.array([3]), 3)
    assert sorted(group[one.position] for one in chosen) == [1, 2, 3]


def test_uncertain_images_are_no_near_duplicates_of_each_other() -> None:
    rows = np.concatenate([np.repeat(blobs([1]), 30, axis=0) + 1e-4 * np.arange(30)[:, None], blobs([5, 5])])
    sure = np.full((40, 2), [0.99, 0.01])
    sure[:30] = [0.5, 0.5]
    sure[30:33] = [0.55, 0.45]
    chosen = [one.position for one in uncertain_images(rows, np.arange(40), sure, 4)]
    assert len(set(chosen)) == 4
    assert any(one >= 30 for one in chosen)


def test_uncertainty_is_one_minus_the_margin() -> None:
    found = uncertainty(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]]))
    np.testing.assert_allclose(found, [1.0, 0.0, 0.6])


@pytest.mark.parametrize("rows", [np.ones((12, 4)), np.zeros((12, 4))])
def test_equal_images_are_still_chosen(rows: np.ndarray) -> None:
    for labels in (2, 10):
        labeled = np.arange(labels)
        found = next_images(rows, labeled, np.full((12, 2), 0.5), 2)
        assert len({one.position for one in found} - set(labeled.tolist())) == 2
