"""The built-in data set: 1,797 handwritten digits of 8 x 8 pixels, for a first run without a download.

Source: UCI "Optical Recognition of Handwritten Digits", as shipped with scikit-learn.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tcs_edge.data.images import HexTexts, ImageSet, Split, fingerprint

TEST_SIZE, VAL_SIZE = 360, 240
SPLIT_STATE = 0  # fixed, so that the test images are the same for every --seed


def digits() -> ImageSet:
    """Load the digits as 1,197 train, 240 val and 360 test images, uint8 (N, 8, 8) in 0..255."""
    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, val, test = (_part(pixels, labels, rows) for rows in _rows(labels))
    classes = tuple(str(digit) for digit in range(10))
    mark = fingerprint(classes, [(split, HexTexts(split.content_table())) for split in (train, val, test)])
    return ImageSet("digits", classes, train, val, test, fingerprint=mark, builtin=True)


def _rows(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    everything = np.arange(len(labels))
    rest, test = train_test_split(everything, test_size=TEST_SIZE, stratify=labels, random_state=SPLIT_STATE)
    train, val = train_test_split(rest, test_size=VAL_SIZE, stratify=labels[rest], random_state=SPLIT_STATE)
    return train, val, test


def _part(pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> Split:
    split = Split(pixels[rows], labels[rows], tuple(f"digits/{row:04d}" for row in rows))
    return replace(split, contents=split.content_table())
