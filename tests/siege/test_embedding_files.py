"""Damaged files of an index, of added classes and of known classes: each is refused at once, in one line."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tcs_edge.bundle.programs import device_module

arrays, indexes, classes = (device_module(name) for name in ("edge_arrays", "edge_index", "edge_classes"))
MODEL = ["a" * 64, "b" * 64]
SIZE = 4


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)


@pytest.fixture
def index(tmp_path) -> Path:
    path = tmp_path / "index.npz"
    indexes.write_index(path, ["a.jpg", "b.jpg", "bad\udcff.jpg"], rows(3), MODEL)
    return path


@pytest.fixture
def own() -> object:
    return classes.AddedClasses(
        classes.Known(arrays.unit_rows(rows(2)), arrays.unit_rows(rows(50, 1))), ["x", "y"], MODEL
    )


def refused(read, *arguments: object) -> str:
    with pytest.raises((ValueError, OSError)) as error:
        read(*arguments)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path: Path, compression: int = zipfile.ZIP_STORED, **contents: bytes) -> Path:
    found = members(path) | {f"{name}.npy": content for name, content in contents.items()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in found.items():
            archive.writestr(name, content)
    return path


def npy(values: np.ndarray, **options: object) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, values, **options)
    return content.getvalue()


def header(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return written.getvalue() + content


def about(**changes: object) -> bytes:
    document = {
        "schema_version": 1,
        "kind": "tcs-edge index",
        "model_sha256": MODEL,
        "names": ["a", "b", "c"],
    } | changes
    return npy(np.frombuffer(json.dumps(document).encode(), dtype=np.uint8))


def test_an_index_comes_back_as_it_was_written(index):
    found = indexes.read_index(index)
    assert found.names == ("a.jpg", "b.jpg", "bad\udcff.jpg")
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-6)
    (name, score), *_ = found.nearest(rows(3)[1] * 7, top=2)
    assert (name, round(score, 4)) == ("b.jpg", 1.0)
    first = index.read_bytes()
    indexes.write_index(index, ["a.jpg", "b.jpg", "bad\udcff.jpg"], rows(3), MODEL)
    assert index.read_bytes() == first, "equal images give equal files"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_index_is_refused(index, share):
    content = index.read_bytes()
    index.write_bytes(content[: int(share * len(content))])
    assert "index.npz" in refused(indexes.read_index, index)


@pytest.mark.parametrize(
    "contents",
    [
        {"embeddings": header((10**9, 10**6))}, {"embeddings": header((10**9, SIZE), b"\0" * 16)},
        {"embeddings": header((-1, SIZE))}, {"embeddings": npy(rows(3).astype(np.float64))},
        {"embeddings": npy(rows(3)[0])}, {"embeddings": npy(rows(2))}, {"embeddings": npy(rows(0))},
        {"embeddings": npy(np.full((3, SIZE), np.nan, np.float32))},
        {"embeddings": npy(np.full((3, SIZE), np.inf, np.float32))}, {"embeddings": npy(np.zeros((3, 0), np.float32))},
        {"embeddings": npy(np.array([[None]], dtype=object), allow_pickle=True)}, {"embeddings": b""},
        {"about": npy(np.frombuffer(b"[" * 100_000, dtype=np.uint8))}, {"about": npy(np.frombuffer(b"[]", np.uint8))},
        {"about": about(kind="other")}, {"about": about(schema_version=2)}, {"about": about(schema_version=True)},
        {"about": about(names=["a", 1, "c"])}, {"about": about(names="abc")}, {"about": about(model_sha256=[])},
        {"about": about(model_sha256="x")}, {"about": header((10**9,))},
    ],
)  # fmt: skip
def test_an_index_with_other_parts_is_refused(index, contents):
    assert "index.npz" in refused(indexes.read_index, rewritten(index, **contents))


def test_a_compressed_index_is_refused_because_it_may_be_a_bomb(index):
    assert "compressed" in refused(indexes.read_index, rewritten(index, zipfile.ZIP_DEFLATED))


def test_pipes_folders_and_broken_links_are_refused_at_once(tmp_path, own):
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        refused(indexes.read_index, tmp_path / "pipe")
        refused(classes.read_classes, tmp_path / "pipe", own)
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for path in (tmp_path, tmp_path / "link", tmp_path / "none"):
        refused(indexes.read_index, path)
        refused(classes.read_classes, path, own)


def test_writing_replaces_a_link_instead_of_its_target(tmp_path, index):
    target = tmp_path / "target"
    target.write_text("kept")
    link = tmp_path / "link.npz"
    link.symlink_to(target)
    indexes.write_index(link, ["a"], rows(1), MODEL)
    assert (target.read_text(), link.is_symlink()) == ("kept", False)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "no draft is left"


def test_an_index_of_another_model_is_refused(index):
    found = indexes.read_index(index)
    indexes.require_model(found, MODEL[::-1], SIZE, "index.npz")
    for hashes, size in ((MODEL[:1], SIZE), (["c" * 64], SIZE), (MODEL, SIZE + 1)):
        assert "another model" in refused(indexes.require_model, found, hashes, size, "index.npz")


def test_added_classes_come_back_as_they_were_written(tmp_path, own):
    path = tmp_path / "classes.json"
    grown, fit = own.add("Straße 🐶", rows(5, 3))
    grown, _ = grown.add("b", rows(5, 4))
    assert (fit.photos, fit.images) == (5, 50)
    assert fit.false_alarms <= 0.05 * fit.images + 1
    classes.write_classes(path, grown)
    again = classes.read_classes(path, own)
    assert again.names == ["Straße 🐶", "b"] or again.names == sorted(again.names)
    assert [one.threshold for one in again.added] == [one.threshold for one in grown.added]
    for image in rows(20, 5):
        assert again.find(image) == grown.find(image)


def entry(**changes: object) -> dict:
    return {"name": "z", "photos": 5, "threshold": 0.1, "mean": [1.0, 0, 0, 0]} | changes


def stored(**changes: object) -> str:
    document = {"schema_version": 1, "kind": "tcs-edge added classes", "model_sha256": MODEL, "classes": [entry()]}
    return json.dumps(document | changes)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{", stored()[:-40], "[" * 100_000, stored(kind="x"), stored(schema_version=2),
        stored(model_sha256=["c" * 64]), stored(model_sha256=None), stored(classes=None), stored(classes=[1]),
        stored(classes=[entry(), entry()]), stored(classes=[entry(name="x")]), stored(classes=[entry(name="X")]),
        stored(classes=[entry(name="")]), stored(classes=[entry(name="a\nb")]), stored(classes=[entry(name=1)]),
        stored(classes=[entry(name="e\u0301")]), stored(classes=[entry(photos=0)]),
        stored(classes=[entry(photos=True)]), stored(classes=[entry(threshold="1")]),
        stored(classes=[entry(threshold=-3)]), stored(classes=[entry(threshold=3)]),
        stored(classes=[entry(mean=[1, 0, 0])]),
        stored(classes=[entry(mean=[10**400, 0, 0, 0])]), stored(classes=[entry(mean=[1e308, 0, 0, 1e308])]),
        stored(classes=[entry(mean=[1, 0, 0, 0, 0])]),
        stored(classes=[entry(mean=[2, 0, 0, 0])]), stored(classes=[entry(mean=[0, 0, 0, 0])]),
        stored(classes=[entry(mean=["a", 0, 0, 0])]), stored(classes=[entry(mean=[float("nan"), 0, 0, 0])]),
        stored(classes=[entry(threshold=float("inf"))]), stored(classes=[entry(mean=[[1, 0], [0]])]),
        stored(classes=[entry(name=f"n{number}") for number in range(201)]), '{"classes": ' + "9" * 5000 + "}",
    ],
)  # fmt: skip
def test_damaged_added_classes_are_refused(tmp_path, own, text):
    path = tmp_path / "classes.json"
    path.write_text(text)
    assert "classes.json" in refused(classes.read_classes, path, own)


def test_bytes_that_are_not_utf_8_and_large_files_are_refused(tmp_path, own):
    path = tmp_path / "classes.json"
    path.write_bytes(b"\xff" * 100)
    refused(classes.read_classes, path, own)
    with path.open("wb") as file:
        file.truncate(classes.MOST_FILE_BYTES + 1)
    assert "larger" in refused(classes.read_classes, path, own)


def test_limits_of_added_classes(own):
    for name, photos in (("z", rows(0)), ("z", rows(1001)), ("z", np.zeros((1, SIZE), np.float32))):
        refused(own.add, name, photos)
    refused(own.add, "z", np.full((2, SIZE), np.nan, np.float32))
    grown = own
    for number in range(classes.MOST_CLASSES):
        grown, _ = grown.add(f"n{number}", rows(1, number))
    assert "the most" in refused(grown.add, "one more", rows(1))
    assert refused(own.remove, "x").startswith("no added class")


def test_known_classes_of_another_model_or_size_are_refused(tmp_path):
    path = tmp_path / "known_classes.npz"
    classes.write_known(path, rows(2), rows(9, 1), MODEL)
    found = classes.read_known(path, MODEL, 2, SIZE)
    assert found.images.shape == (9, SIZE)
    for hashes, count, size in ((["c" * 64], 2, SIZE), (MODEL, 3, SIZE), (MODEL, 2, SIZE + 1)):
        refused(classes.read_known, path, hashes, count, size)


def test_the_threshold_limits_false_alarms():
    assert classes.quantile(np.array([]), 0.05) == 0
    assert classes.quantile(np.arange(10.0), 0.05) == 9, "too few images to show 5 %"
    assert classes.quantile(np.arange(100.0), 0.05) == 95
    means = np.eye(SIZE, dtype=np.float32)[:2]
    known = classes.Known(means, np.repeat(means, 20, axis=0))
    own = classes.AddedClasses(known, ["x", "y"], MODEL)
    grown, fit = own.add("z", np.eye(SIZE, dtype=np.float32)[2:3])
    assert (grown.added[0].threshold, fit.false_alarms) == (-1.0, 0), "no known image is nearer"
    near, far = np.array([0.2, 0, 1, 0], np.float32), np.array([1, 0, 0, 0], np.float32)
    assert grown.find(far) is None
    place, probability = grown.find(near)
    assert (place, probability) == (0, pytest.approx(41 / 42))
    every = grown.with_added(np.array([0.7, 0.3]), near)
    assert every.sum() == pytest.approx(1)
    assert every.argmax() == 2
    np.testing.assert_array_equal(grown.with_added(np.array([0.7, 0.3]), far), [0.7, 0.3, 0])
