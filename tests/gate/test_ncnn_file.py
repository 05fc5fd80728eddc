"""Bare ncnn models in the gate: one size for all files, parameters from the bytes, no pass for a damaged file."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

SUFFIXES = (".param", ".bin", ".json")


@pytest.fixture
def own(param_path, tmp_path) -> Path:
    for suffix in SUFFIXES:
        shutil.copy(param_path.with_suffix(suffix), tmp_path / f"model{suffix}")
    return tmp_path / "model.param"


def test_size_and_parameters_are_those_of_all_files(own, cli, model):
    mb = sum(own.with_suffix(suffix).stat().st_size for suffix in SUFFIXES) / 1e6
    limits = ("--max-total-mb", mb + 1e-6, "--max-size-mb", mb + 1e-6, "--max-params-m", 10)
    passed = cli("gate", own, *limits)
    assert passed.exit_code == 0, passed.stderr

    assert cli("gate", own, "--max-size-mb", mb - 1e-3).exit_code == 1
    # Batch norms are folded, so the file has a few parameters less than the network.
    trained = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert cli("gate", own, "--max-params-m", trained).exit_code == 0
    assert cli("gate", own, "--max-params-m", 0.8 * trained).exit_code == 1


@pytest.mark.parametrize(
    ("suffix", "change"),
    [
        (".bin", lambda content: content[:-64]),
        (".bin", lambda content: content + bytes(64)),
        (".bin", lambda content: content[: len(content) // 2]),
        (".param", lambda content: content.replace(b"\nConvolution ", b"\nInput ", 1)),
        (".param", lambda content: re.sub(rb"( 6=\d)(\d)", rb"\1_\2", content, count=1)),  # ncnn stops at the line
    ],
)
def test_a_model_that_contradicts_its_weights_never_passes(own, cli, suffix, change):
    file = own.with_suffix(suffix)
    file.write_bytes(change(file.read_bytes()))
    result = cli("gate", own, "--max-params-m", 1000)
    assert result.exit_code != 0
    assert "Traceback" not in result.stderr + result.stdout


def test_a_file_that_is_not_a_model_or_lacks_its_weights_is_one_line(own, cli):
    own.with_suffix(".bin").unlink()
    missing = cli("gate", own, "--max-size-mb", 1000)
    assert missing.exit_code != 0
    assert "model.bin is missing beside it" in missing.stdout + missing.stderr
    own.write_text("hello\n", encoding="utf-8")
    other = cli("gate", own, "--max-size-mb", 1000)
    assert other.exit_code == 2
    assert len(other.stderr.splitlines()) == 1
    assert "not an ncnn .param file" in other.stderr


@pytest.mark.parametrize("blobs", [lambda own: own - 1, lambda own: own + 1_000_000, lambda own: 999_999_999])
def test_a_file_whose_number_of_blobs_would_overrun_or_exhaust_memory_is_refused(own, cli, blobs):
    magic, counts, *layers = own.read_text(encoding="utf-8").splitlines()
    total, stated = map(int, counts.split())
    own.write_text("\n".join([magic, f"{total} {blobs(stated)}", *layers]) + "\n", encoding="utf-8")
    result = cli("gate", own, "--max-size-mb", 1000)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert f"states {blobs(stated)} blobs, but its layers write" in result.stderr
