"""Exports and images that the tests of several runtimes share."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tcs_edge.data import ImageSet, Split
from tcs_edge.export.preprocess import write_labels, write_preprocess


@pytest.fixture
def exports(onnx_path, labels, preprocess, tmp_path) -> Path:
    """A folder of exports with an ONNX model alone."""
    folder = tmp_path / "exports"
    folder.mkdir()
    shutil.copy(onnx_path, folder / "model.onnx")
    write_labels(folder / "labels.txt", labels)
    write_preprocess(folder / "preprocess.json", preprocess)
    return folder


@pytest.fixture
def images(labels) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)
    split = Split(pixels, np.arange(8, dtype=np.int64) % len(labels), tuple(str(row) for row in range(8)))
    return ImageSet("noise", labels, split, split, split, fingerprint="")
