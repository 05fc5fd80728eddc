from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tcs_edge.data import Split
from tcs_edge.data.images import fingerprint


def split(labels=(0, 1, 0), names=("a", "b", "c")):
    return Split(np.zeros((len(names), 2, 2), np.uint8), np.array(labels, np.int64), names)


def test_gray_and_color_arrays_give_rgb():
    gray = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    color = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    labels = np.zeros(2, np.int64)
    assert np.array_equal(Split(gray, labels, ("a", "b")).image(1), np.repeat(gray[1][..., None], 3, axis=2))
    assert np.array_equal(Split(color, labels, ("a", "b")).image(1), color[1])


def test_content_hash_of_files_and_arrays(tmp_path, picture):
    path = tmp_path / "a.png"
    picture().save(path)
    files = Split((path,), np.zeros(1, np.int64), ("a.png",))
    assert files.content_sha256(0) == hashlib.sha256(path.read_bytes()).hexdigest()
    pixels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    arrays = Split(pixels, np.zeros(2, np.int64), ("a", "b"))
    assert arrays.content_sha256(1) == hashlib.sha256(bytes([4, 5, 6, 7])).hexdigest()


def test_subset_keeps_image_label_and_name_together(tmp_path):
    images = Split(np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.array([5, 6, 7]), ("a", "b", "c"))
    part = images.subset([2, 0])
    assert (part.names, part.labels.tolist(), len(part)) == (("c", "a"), [7, 5], 2)
    assert np.asarray(part.image(0))[0, 0, 0] == 8
    files = Split((tmp_path / "a", tmp_path / "b"), np.array([1, 2]), ("a", "b")).subset(np.array([1]))
    assert (files.sources, files.names) == ((tmp_path / "b",), ("b",))


def test_different_lengths_are_refused():
    with pytest.raises(ValueError, match="differ in length"):
        split(labels=(0, 1))


def test_fingerprint_depends_on_every_part():
    def mark(classes=("x", "y"), images=None, contents=("1", "2", "3"), order=slice(None)):
        parts = [(images or split(), contents), (split((), ()), ()), (split((), ()), ())]
        return fingerprint(classes, parts[order])

    changed = [
        mark(),
        mark(classes=("y", "x")),
        mark(images=split(labels=(1, 1, 0))),
        mark(images=split(names=("a", "b", "d"))),
        mark(contents=("1", "2", "4")),
        mark(order=slice(None, None, -1)),
        mark(images=split(names=("a", "b", "\udcff"))),
    ]
    assert len(set(changed)) == len(changed)
    assert mark(images=split((0, 0, 1), ("a", "c", "b")), contents=("1", "3", "2")) == mark()
