"""`tcs-edge cache`: what is cached, and clearing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcs_edge.data import load_images
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.teachers.cache import FeatureStore, feature_ingredients


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "cache", feature_ingredients("test_vit", "a" * 64, Preprocess(32)), 64)


@pytest.fixture
def filled(tmp_path: Path, store: FeatureStore, photos: Path) -> Path:
    """Cache with 132 checked images and the features of 30."""
    load_images(photos, cache_dir=tmp_path / "cache")
    contents = np.random.default_rng(0).integers(0, 256, (30, 32), np.uint8)
    with store.owned(contents) as folder:
        for part in np.split(contents, [20]):
            store.write(folder, part, np.ones((len(part), 64), np.float16))
    (tmp_path / "cache/features/earlier").mkdir()
    (tmp_path / "cache/features/earlier/index.json").write_text("{}")
    return tmp_path / "cache"


def test_cache_shows_images_and_sizes(cli: Any, filled: Path) -> None:
    done = cli("cache", "--cache-dir", filled, "--json")
    document = json.loads(done.stdout)
    size = sum(path.stat().st_size for path in filled.rglob("*") if path.is_file())
    assert (done.exit_code, document["bytes"], document["folder"]) == (0, size, str(filled))
    rows = [(part["kind"], part["what"], part["images"]) for part in document["parts"]]
    assert sorted(rows, key=str) == [
        ("features", "of an earlier version, not used", None),
        ("features", "teacher test_vit, 32 px, pooled", 30),
        ("intake", "checked images", 132),
    ]
    table = cli("cache", "--cache-dir", filled).stdout
    assert "teacher test_vit, 32 px, pooled" in table
    assert "132" in table


@pytest.mark.parametrize(("kind", "left"), [("intake", {"features"}), ("features", {"intake"}), ("all", set())])
def test_cache_is_cleared_by_kind(cli: Any, filled: Path, kind: str, left: set[str]) -> None:
    done = cli("cache", "--cache-dir", filled, "--clear", kind)
    assert done.exit_code == 0
    assert "removed" in done.stdout
    document = json.loads(cli("cache", "--cache-dir", filled, "--json").stdout)
    assert {part["kind"] for part in document["parts"]} == left


def test_features_that_a_process_computes_are_not_cleared(cli: Any, filled: Path, store: FeatureStore) -> None:
    with store.owned(np.zeros((1, 32), np.uint8)):
        done = cli("cache", "--cache-dir", filled, "--clear", "all")
    assert done.exit_code == 2
    assert "is in use by process" in done.stderr
    assert len(json.loads(cli("cache", "--cache-dir", filled, "--json").stdout)["parts"]) == 3


def test_an_unknown_kind_is_refused(cli: Any, tmp_path: Path) -> None:
    done = cli("cache", "--cache-dir", tmp_path, "--clear", "feature")
    assert (done.exit_code, "Did you mean features?" in done.stderr) == (2, True)


def test_an_empty_cache_has_no_parts(cli: Any, tmp_path: Path) -> None:
    document = json.loads(cli("cache", "--cache-dir", tmp_path / "none", "--json").stdout)
    assert (document["parts"], document["bytes"]) == ([], 0)
    assert not (tmp_path / "none").exists()
