from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import MissingError
from tcs_edge.teachers.cache import FeatureStore, cache_key, feature_ingredients
from tcs_edge.utils.cache_folder import default_cache_dir


def _ingredients(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "timm_name": "test_vit",
        "weights_sha256": "a" * 64,
        "preprocess": Preprocess(32),
        "fingerprint": "b" * 64,
        "split": "train",
        "names": ("x", "y"),
    }
    return feature_ingredients(**(values | changes))


def _store(root: Path, rows: int = 10, dim: int = 3, shard_images: int = 4) -> FeatureStore:
    return FeatureStore(root, _ingredients(), rows, dim, shard_images)


def _filled(root: Path) -> tuple[FeatureStore, np.ndarray]:
    store = _store(root)
    features = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float16)
    for shard in range(store.shards):
        rows = store.rows_of(shard)
        store.write(shard, features[rows.start : rows.stop])
    return store, features


@pytest.mark.parametrize(
    "change",
    [
        {"timm_name": "test_vit2"},
        {"weights_sha256": "c" * 64},
        {"preprocess": Preprocess(33)},
        {"preprocess": Preprocess(32, crop_pct=0.9)},
        {"preprocess": Preprocess(32, resize="stretch")},
        {"preprocess": Preprocess(32, interpolation="bicubic")},
        {"preprocess": Preprocess(32, mean=(0.5, 0.5, 0.5))},
        {"preprocess": Preprocess(32, std=(0.5, 0.5, 0.5))},
        {"fingerprint": "d" * 64},
        {"split": "val"},
        {"names": ("y", "x")},
    ],
)
def test_key_changes_with_each_ingredient(change: dict[str, Any]) -> None:
    assert cache_key(_ingredients(**change)) != cache_key(_ingredients())


def test_key_changes_with_the_definition_of_a_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key(_ingredients())
    monkeypatch.setattr("tcs_edge.teachers.cache.FEATURE_VERSION", 2)
    assert cache_key(_ingredients()) != before


def test_key_ignores_the_order_of_keys_and_wording() -> None:
    ingredients = _ingredients()
    assert cache_key(dict(reversed(ingredients.items()))) == cache_key(ingredients)
    assert "description" not in ingredients["preprocess"]


@given(st.integers(0, 50), st.integers(1, 9))
def test_shards_cover_every_row_once(rows: int, shard_images: int) -> None:
    store = FeatureStore(Path("unused"), {}, rows, 1, shard_images)
    covered = [row for shard in range(store.shards) for row in store.rows_of(shard)]
    assert covered == list(range(rows))


def test_written_shards_are_read_back_unchanged(tmp_path: Path) -> None:
    store, features = _filled(tmp_path)
    found = _store(tmp_path).read_intact()
    assert np.array_equal(np.concatenate([found[shard] for shard in range(store.shards)]), features)
    assert not list(store.folder.glob(".*"))


def test_other_ingredients_use_another_folder(tmp_path: Path) -> None:
    _filled(tmp_path)
    assert FeatureStore(tmp_path, _ingredients(split="val"), 10, 3, 4).read_intact() == {}


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damaged_shard_is_left_out_with_a_warning(tmp_path: Path, recorder: Any, damage: str) -> None:
    store, _ = _filled(tmp_path)
    path = store.folder / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()
    if damage != "delete":
        path.write_bytes(bytes(data) if damage == "flip" else bytes(data[:-1]))
    assert set(store.read_intact()) == {0, 2}
    assert len(recorder.warned) == 1
    assert "shard-00001" in recorder.warned[0]


def test_shard_without_a_recorded_hash_is_ignored(tmp_path: Path) -> None:
    store, _ = _filled(tmp_path)
    (store.folder / "index.json").unlink()
    assert store.read_intact() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 9}', '{"schema_version": 1, "rows": 3}'])
def test_unusable_index_is_rebuilt(tmp_path: Path, recorder: Any, text: str) -> None:
    store, features = _filled(tmp_path)
    (store.folder / "index.json").write_text(text)
    assert store.read_intact() == {}
    assert len(recorder.warned) == 1
    store.write(0, features[:4])
    assert set(store.read_intact()) == {0}


@pytest.mark.parametrize("bad", [np.zeros((4, 3), np.float32), np.zeros((3, 3), np.float16)])
def test_shard_of_another_shape_or_type_is_refused(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="is not float16"):
        _store(tmp_path).write(0, bad)


def test_full_disk_is_a_missing_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MissingError, match="disk is full"):
        _store(tmp_path).write(0, np.zeros((4, 3), np.float16))


def test_cache_takes_at_most_2_1_bytes_per_feature(tmp_path: Path) -> None:
    rows, dim = 600, 384
    store = FeatureStore(tmp_path, _ingredients(), rows, dim)
    for shard in range(store.shards):
        store.write(shard, np.ones((len(store.rows_of(shard)), dim), np.float16))
    size = sum(path.stat().st_size for path in store.folder.iterdir())
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
