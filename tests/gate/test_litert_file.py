"""Bare LiteRT models in the gate: one size for both files, parameters from the bytes, no pass for a damaged file."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

SUFFIXES = (".tflite", ".json")
WEIGHTS = struct.pack("<5i", 4, 4, 3, 3, 3)


@pytest.fixture
def own(tflite_path, tmp_path) -> Path:
    for suffix in SUFFIXES:
        shutil.copy(tflite_path.with_suffix(suffix), tmp_path / f"model{suffix}")
    return tmp_path / "model.tflite"


def test_size_and_parameters_are_those_of_both_files(own, cli):
    mb = sum(own.with_suffix(suffix).stat().st_size for suffix in SUFFIXES) / 1e6
    limits = ("--max-total-mb", mb + 1e-6, "--max-size-mb", mb + 1e-6, "--max-params-m", 128e-6)
    passed = cli("gate", own, *limits)
    assert passed.exit_code == 0, passed.stderr
    assert cli("gate", own, "--max-size-mb", mb - 1e-4).exit_code == 1
    assert cli("gate", own, "--max-params-m", 127e-6).exit_code == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-64],
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(WEIGHTS, struct.pack("<5i", 4, 1, 3, 3, 3)),
        lambda content: content.replace(WEIGHTS, struct.pack("<5i", 4, 4, 3, 3, 0)),
        lambda content: content.replace(WEIGHTS, struct.pack("<5i", 4, 4, 3, 3, -3)),
    ],
)
def test_a_model_that_contradicts_its_weights_never_passes(own, cli, change):
    content = own.read_bytes()
    own.write_bytes(change(content))
    assert own.read_bytes() != content
    result = cli("gate", own, "--max-params-m", 1000)
    assert result.exit_code != 0
    assert "Traceback" not in result.stderr + result.stdout


def test_a_file_that_is_not_a_model_is_one_line(own, cli):
    own.write_text("hello\n", encoding="utf-8")
    other = cli("gate", own, "--max-size-mb", 1000)
    assert other.exit_code == 2
    assert len(other.stderr.splitlines()) == 1
    assert "not a .tflite file" in other.stderr
