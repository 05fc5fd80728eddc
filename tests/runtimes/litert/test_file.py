"""The reader of .tflite files: right numbers, and one line for every damaged file, without LiteRT installed.

tiny.tflite is a convolution of 3x3, ReLU, a mean and a linear layer, converted by litert-torch 0.10.0; test_litert.py
has the PyTorch model.
"""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tcs_edge.errors import DataError
from tcs_edge.runtimes.litert import LitertRunner
from tcs_edge.runtimes.litert_file import parse_litert, read_litert

HERE = Path("model.tflite")


def test_a_file_has_the_weights_of_the_model(tflite_path):
    found = read_litert(tflite_path)
    assert found.problem == ""
    assert found.elements == Counter(float=3 * 4 * 9 + 4 + 4 * 4, int32=14)  # without the bias of zeros
    ((image,), (logits,)) = found.inputs, found.outputs
    assert (image.shape, image.kind, logits.shape) == ((1, 3, 8, 8), "float", (1, 4))
    content = tflite_path.read_bytes()
    largest = max((one for one in found.constants if one.kind == "float"), key=lambda one: one.size)
    weights = np.frombuffer(content, np.float32, largest.size // 4, largest.start)
    assert sorted(set(np.rint(10 * weights).astype(int).tolist())) == list(range(-5, 6))


def test_every_cut_is_refused(tflite_path):
    content = tflite_path.read_bytes()
    for cut in range(len(content)):
        with pytest.raises(DataError) as caught:
            parse_litert(content[:cut], HERE)
        assert "\n" not in str(caught.value)


def test_random_damage_is_an_error_of_ours_or_a_model(tflite_path):
    rng = np.random.default_rng(0)
    content = np.frombuffer(tflite_path.read_bytes(), np.uint8)
    for _ in range(3000):
        damaged = content.copy()
        damaged[rng.integers(0, len(content), 3)] = rng.integers(0, 256, 3)
        with contextlib.suppress(DataError):
            parse_litert(damaged.tobytes(), HERE)


@pytest.fixture
def own(tflite_path, tmp_path) -> Path:
    """Copy of the model that a test may damage, without its metadata."""
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_path.read_bytes())
    return path


INPUT = struct.pack("<5i", 4, 1, 3, 8, 8)  # as a list: its length first
WEIGHTS = struct.pack("<5i", 4, 4, 3, 3, 3)
DAMAGES = {
    "another kind of file": (lambda content: b"7767517\n2 2\n", "has no TFL3 at byte 4"),
    "empty": (lambda content: b"", "has no TFL3 at byte 4"),
    "first half": (lambda content: content[: len(content) // 2], "ends early"),
    "channels last": (
        lambda content: content.replace(INPUT, struct.pack("<5i", 4, 1, 8, 8, 3)),
        "must be (B, 3, S, S)",
    ),
    "a batch of 2": (lambda content: content.replace(INPUT, struct.pack("<5i", 4, 2, 3, 8, 8)), "fixed to 2"),
    "fewer weights": (lambda content: content.replace(WEIGHTS, struct.pack("<5i", 4, 5, 3, 3, 3)), "needs 540 bytes"),
    "negative axis": (lambda content: content.replace(WEIGHTS, struct.pack("<5i", 4, -4, 3, 3, 3)), "not possible"),
    "huge axes": (lambda content: content.replace(WEIGHTS, struct.pack("<5i", 4, *[2**31 - 1] * 4)), "not possible"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_line(own, damage):
    change, message = DAMAGES[damage]
    content = own.read_bytes()
    own.write_bytes(change(content))
    assert own.read_bytes() != content
    with pytest.raises(DataError) as caught:
        LitertRunner(own)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no such LiteRT file"):
        LitertRunner(tmp_path / "none.tflite")
