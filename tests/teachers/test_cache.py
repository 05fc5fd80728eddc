from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import MissingError
from tcs_edge.teachers.cache import FeatureStore, cache_key, feature_ingredients, shard_files
from tcs_edge.utils.cache_folder import default_cache_dir

DIM = 3


def _ingredients(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"model": "test_vit", "weights_sha256": "a" * 64, "preprocess": Preprocess(32)}
    return feature_ingredients(**(values | changes))


def _store(root: Path, **changes: Any) -> FeatureStore:
    return FeatureStore(root, _ingredients(**changes), DIM)


def _contents(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, count]).integers(0, 256, (count, 32), np.uint8)


def _features(contents: np.ndarray) -> np.ndarray:
    """Features that name their image."""
    return contents[:, 8 : 8 + DIM].astype(np.float16)


def _write(store: FeatureStore, contents: np.ndarray, shard_images: int = 4) -> None:
    with store.owned(contents) as folder:
        for start in range(0, len(contents), shard_images):
            part = contents[start : start + shard_images]
            store.write(folder, part, _features(part))


def test_reading_removes_what_a_killed_pass_left_after_its_last_shard(tmp_path: Path) -> None:
    """Nobody owns the folder of the pass again, because all features are there."""
    store, contents = _store(tmp_path), _contents(6)
    _write(store, contents)
    folder = shard_files(store.folder)[0].parent
    left = [folder / ".tcs-edge.lock", folder / ".0a.draft-77.safetensors", store.folder / ".space.json.lock",
            store.folder / ".space.draft-77.json"]  # fmt: skip
    for path in left:
        path.touch()
    assert store.read(contents)[1].all()
    assert [path for path in left if path.exists()] == []
    assert (store.folder / "space.json").exists()


def test_reading_leaves_the_lock_of_a_running_pass_alone(tmp_path: Path) -> None:
    store, contents = _store(tmp_path), _contents(6)
    _write(store, contents[:4])
    with store.owned(contents) as folder:
        (folder / ".0a.draft-77.safetensors").touch()
        assert not store.read(contents)[1].all()
        assert {path.name for path in folder.iterdir()} == {".tcs-edge.lock", ".0a.draft-77.safetensors"}
    assert not (folder / ".tcs-edge.lock").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"model": "test_vit2"},
        {"weights_sha256": "c" * 64},
        {"preprocess": Preprocess(33)},
        {"preprocess": Preprocess(32, crop_pct=0.9)},
        {"preprocess": Preprocess(32, resize="stretch")},
        {"preprocess": Preprocess(32, interpolation="bicubic")},
        {"preprocess": Preprocess(32, mean=(0.5, 0.5, 0.5))},
        {"preprocess": Preprocess(32, std=(0.5, 0.5, 0.5))},
    ],
)
def test_key_changes_with_each_ingredient(change: dict[str, Any]) -> None:
    assert cache_key(_ingredients(**change)) != cache_key(_ingredients())


@pytest.mark.parametrize(("constant", "value"), [("FEATURE_VERSION", 2), ("PRECISION", "bfloat16")])
def test_key_changes_with_the_definition_of_a_feature(
    monkeypatch: pytest.MonkeyPatch, constant: str, value: Any
) -> None:
    before = cache_key(_ingredients())
    monkeypatch.setattr(f"tcs_edge.teachers.cache.{constant}", value)
    assert cache_key(_ingredients()) != before


def test_key_ignores_the_order_of_keys_and_wording() -> None:
    ingredients = _ingredients()
    assert cache_key(dict(reversed(ingredients.items()))) == cache_key(ingredients)
    assert "description" not in ingredients["preprocess"]


def test_features_are_found_by_content_in_any_order(tmp_path: Path) -> None:
    contents = _contents(10)
    _write(_store(tmp_path), contents)
    asked = np.concatenate([contents[[7, 2, 2, 9]], _contents(2, seed=1), contents[[0]]])
    features, found = _store(tmp_path).read(asked)
    assert found.tolist() == [True] * 4 + [False] * 2 + [True]
    assert np.array_equal(features[found], _features(asked[found]))
    assert np.array_equal(_store(tmp_path).has(asked), found)
    assert not list(tmp_path.rglob(".*"))


def test_contents_that_start_alike_are_told_apart(tmp_path: Path) -> None:
    contents = _contents(6)
    contents[:, :8] = 7
    _write(_store(tmp_path), contents[:4])
    features, found = _store(tmp_path).read(contents[::-1])
    assert found.tolist() == [False, False, True, True, True, True]
    assert np.array_equal(features[2:], _features(contents[3::-1]))


def test_no_images_have_no_features(tmp_path: Path) -> None:
    features, found = _store(tmp_path).read(np.empty((0, 32), np.uint8))
    assert (features.shape, found.shape) == ((0, DIM), (0,))


def test_other_ingredients_use_another_folder(tmp_path: Path) -> None:
    _write(_store(tmp_path), _contents(4))
    assert not _store(tmp_path, preprocess=Preprocess(33)).has(_contents(4)).any()


def test_a_folder_states_its_ingredients(tmp_path: Path) -> None:
    store = _store(tmp_path)
    _write(store, _contents(4))
    stated = json.loads((store.folder / "space.json").read_text())
    assert (stated["ingredients"], stated["dim"]) == (_ingredients(), DIM)


def test_a_draft_of_the_ingredients_is_removed(tmp_path: Path) -> None:
    """As a process leaves it that is killed at its first file."""
    store = _store(tmp_path)
    store.folder.mkdir(parents=True)
    (store.folder / ".space.draft-4000000.json").write_text("{")
    _write(store, _contents(4))
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("damage", ["flip a feature", "flip a content", "flip the header", "cut", "empty", "delete"])
def test_only_a_damaged_shard_is_left_out(tmp_path: Path, recorder: Any, damage: str) -> None:
    store, contents = _store(tmp_path), _contents(10)
    _write(store, contents)
    path = shard_files(store.folder)[0]
    data = bytearray(path.read_bytes())
    (hurt,) = [rows for rows in (range(4), range(4, 8), range(8, 10)) if contents[rows[0]].tobytes() in data]
    place = {"flip a feature": data.index(_features(contents)[hurt[0]].tobytes()), "flip the header": 12}
    place["flip a content"] = data.index(contents[hurt[0]].tobytes()) + 20
    path.unlink()
    if damage.startswith("flip"):
        data[place[damage]] ^= 1
    if damage != "delete":
        path.write_bytes({"cut": data[:-1], "empty": b""}.get(damage, data))
    features, found = store.read(contents)
    assert np.flatnonzero(~found).tolist() == list(hurt)
    assert np.array_equal(features[found], _features(contents[found]))
    warned = damage.startswith("flip a")
    assert [path.name in line and "damaged shard" in line for line in recorder.warned] == [True] * warned
    _write(store, contents[~found])
    assert store.read(contents)[1].all()
    assert len(recorder.warned) == warned  # the damaged file is gone


def test_other_files_are_no_shards(tmp_path: Path) -> None:
    store, contents = _store(tmp_path), _contents(4)
    _write(store, contents)
    (folder,) = (path for path in store.folder.iterdir() if path.is_dir())
    for name, content in (("a.safetensors", b"x"), ("0" * 64 + ".safetensors", b"\xff" * 50), ("notes.txt", b"")):
        (folder / name).write_bytes(content)
    assert store.read(contents)[1].all()


def test_a_shard_of_other_features_is_not_used(tmp_path: Path) -> None:
    """As one that was copied by hand: its width differs."""
    contents = _contents(4)
    wide = FeatureStore(tmp_path / "other", _ingredients(), DIM + 1)
    with wide.owned(contents) as folder:
        wide.write(folder, contents, np.ones((4, DIM + 1), np.float16))
    store = _store(tmp_path)
    store.folder.parent.mkdir(parents=True)
    wide.folder.rename(store.folder)
    assert not store.read(contents)[1].any()


@pytest.mark.parametrize("bad", [np.zeros((4, 3), np.float32), np.zeros((3, 3), np.float16)])
def test_shard_of_another_shape_or_type_is_refused(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="is not float16"):
        _store(tmp_path).write(tmp_path, _contents(4), bad)


def test_full_disk_is_a_missing_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MissingError, match="disk is full"):
        _store(tmp_path).write(tmp_path, _contents(4), np.zeros((4, 3), np.float16))


@pytest.mark.parametrize("same_images", [True, False])
def test_two_writers_at_once_lose_no_shard(tmp_path: Path, same_images: bool) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_cache import _contents, _store, _write\n"
        "for number in range(10): _write(_store(Path(sys.argv[2])), _contents(20, 100 * int(sys.argv[3]) + number))"
    )
    seeds = (1, 1) if same_images else (1, 2)
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    started = [subprocess.Popen([*command, str(seed)], env=environment) for seed in seeds]
    assert [process.wait(120) for process in started] == [0, 0]
    store = _store(tmp_path)
    for seed in set(seeds):
        for number in range(10):
            contents = _contents(20, 100 * seed + number)
            features, found = store.read(contents)
            assert found.all()
            assert np.array_equal(features, _features(contents))
    assert len(shard_files(store.folder)) == 50 * len(set(seeds))
    assert not list(tmp_path.rglob(".*"))


def test_cache_takes_little_more_than_the_features(tmp_path: Path) -> None:
    rows, dim = 600, 384
    store, contents = FeatureStore(tmp_path, _ingredients(), dim), _contents(rows)
    with store.owned(contents) as folder:
        for part in np.split(contents, [512]):
            store.write(folder, part, np.ones((len(part), dim), np.float16))
    size = sum(path.stat().st_size for path in shard_files(store.folder))
    assert size <= 2.1 * rows * dim


def test_default_folder_depends_on_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TCS_EDGE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_dir() == tmp_path / ".cache/tcs-edge"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg/tcs-edge"
    monkeypatch.setenv("TCS_EDGE_CACHE", "~/own")
    assert default_cache_dir() == tmp_path / "own"
