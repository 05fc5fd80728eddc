"""Weights files that are no weights: one line, and nothing waits."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tcs_edge.errors import DataError, MissingError, UsageError
from tcs_edge.models.safetensors_file import check_safetensors, read_state
from tcs_edge.students.build import build_student, local_file
from tcs_edge.teachers.load import build_teacher, describe_teacher

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def test_a_git_lfs_pointer_is_named(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(POINTER)
    with pytest.raises(DataError, match=r"is a Git LFS pointer, not the file itself\. Run: git lfs pull"):
        check_safetensors(path, "--teacher-weights")


def test_a_pipe_and_a_device_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "device.safetensors").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(UsageError, match="is not a regular file"):
            check_safetensors(tmp_path / f"{name}.safetensors", "--teacher-weights")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "gone"])
def test_a_path_that_the_system_refuses_is_missing(name):
    with pytest.raises(MissingError, match="no such weights file"):
        check_safetensors(Path(f"{name}.safetensors"), "--teacher-weights")


def test_a_long_path_of_a_student_is_missing():
    with pytest.raises(MissingError, match="no such weights file"):
        local_file("test_resnet", Path("a" * 5000))


def save(weights: dict[str, torch.Tensor], path: Path) -> None:
    try:
        save_file(weights, path)
    except KeyError as dtype:
        pytest.skip(f"this safetensors does not write {dtype}")


def test_complex_weights_are_refused(tmp_path):
    save({"a": torch.ones(2, dtype=torch.complex64)}, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="tensor a has complex values"):
        read_state(tmp_path / "a.safetensors", {"a"})


def test_teacher_weights_with_another_axis_are_refused_in_one_line(tmp_path, teacher_file):
    path = tmp_path / "a.safetensors"
    save_file({key: torch.zeros(*tensor.shape, 1) for key, tensor in load_file(teacher_file).items()}, path)
    with pytest.raises(DataError, match="of another shape"):
        build_teacher(describe_teacher("timm/test_vit", path, 64))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_teacher_weights_that_are_not_finite_are_refused_with_their_tensor(tmp_path, teacher_file, value, dtype):
    weights = load_file(teacher_file)
    weights["blocks.0.norm1.bias"] = weights["blocks.0.norm1.bias"].to(dtype)
    weights["blocks.0.norm1.bias"][3] = value
    path = tmp_path / "a.safetensors"
    save_file(weights, path)
    with pytest.raises(DataError) as caught:
        build_teacher(describe_teacher("timm/test_vit", path, 64))
    assert str(caught.value) == (
        f"{path}: tensor blocks.0.norm1.bias has NaN or infinite values (1 of 64). Download the file again."
    )


def test_student_weights_that_are_not_finite_are_refused_before_the_teacher_pass(cli, tiny, tmp_path, monkeypatch):
    weights = build_student("lcnet_050", 32, "random", seed=0).state_dict()
    weights["conv_stem.weight"][0, 0] = float("nan")
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    monkeypatch.setattr("tcs_edge.pipeline.run.teach", None)
    monkeypatch.chdir(tmp_path)
    result = cli(*tiny(student_init=path))
    assert result.exit_code == 3, result.stderr
    assert f"{path}: tensor conv_stem.weight has NaN or infinite values (9 of " in result.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.safetensors"]


def test_tensors_that_the_student_does_not_use_may_have_any_value(tmp_path):
    weights = build_student("lcnet_050", 32, "random", seed=0).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(weights | {"classifier.weight": torch.full((1000, 1280), float("nan"))}, path)
    build_student("lcnet_050", 32, path, seed=0)


def of_student(path: Path) -> None:
    build_student("lcnet_050", 32, path, seed=0)


def of_teacher(path: Path) -> None:
    build_teacher(describe_teacher("timm/test_vit", path, 64))


def tensors_of(build, teacher_file: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Weights that fit, and the name of a kernel."""
    if build is of_teacher:
        return load_file(teacher_file), "patch_embed.proj.weight"
    return dict(build_student("lcnet_050", 32, "random", seed=0).state_dict()), "conv_stem.weight"


CHANGES = {
    "int64": lambda kernel: kernel.long(),
    "int8": lambda kernel: kernel.to(torch.int8),
    "uint8": lambda kernel: kernel.to(torch.uint8),
    "bool": lambda kernel: kernel.bool(),
    "complex": lambda kernel: kernel.to(torch.complex64),
    "5-D": lambda kernel: kernel[..., None],
    "3-D": lambda kernel: kernel[0],
    "scalar": lambda kernel: kernel.sum(),
    "empty": lambda kernel: kernel[:0],
    "shorter": lambda kernel: kernel[:-1],
    "nan": lambda kernel: kernel * float("nan"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("build", [of_student, of_teacher])
def test_a_kernel_that_does_not_fit_is_one_line_with_its_name(tmp_path, teacher_file, build, change):
    weights, name = tensors_of(build, teacher_file)
    path = tmp_path / "a.safetensors"
    save(weights | {name: CHANGES[change](weights[name]).contiguous()}, path)
    with pytest.raises(DataError) as caught:
        build(path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert path.name in str(caught.value)


def raw(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
TWICE = b'{"a":%b,"a":%b}' % ((json.dumps(ONE).encode(),) * 2)
DAMAGED = {
    "twice": raw(TWICE, bytes(4)),
    "same bytes": raw(json.dumps({"a": ONE, "b": ONE}).encode(), bytes(4)),
    "overlap": raw(json.dumps({"a": ONE, "b": ONE | {"data_offsets": [2, 6]}}).encode(), bytes(6)),
    "unused bytes": raw(json.dumps({"a": ONE}).encode(), bytes(8)),
    "beyond the end": raw(json.dumps({"a": ONE | {"data_offsets": [0, 400], "shape": [100]}}).encode(), bytes(4)),
    "too large": raw(json.dumps({"a": ONE | {"shape": [2**62, 4], "data_offsets": [0, 0]}}).encode(), b""),
    "negative": raw(json.dumps({"a": ONE | {"shape": [-1]}}).encode(), bytes(4)),
    "complex": raw(json.dumps({"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}).encode(), bytes(8)),
    "half bytes": raw(json.dumps({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode(), b"\0"),
    "deep": raw(b'{"a":' + b"[" * 100_000, b""),
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("build", [of_student, of_teacher])
def test_a_damaged_file_is_one_line_with_its_name(tmp_path, build, case):
    path = tmp_path / "a.safetensors"
    path.write_bytes(DAMAGED[case])
    with pytest.raises(DataError) as caught:
        build(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("build", [of_student, of_teacher])
def test_real_weights_of_any_precision_are_read(tmp_path, teacher_file, build, dtype):
    weights, _ = tensors_of(build, teacher_file)
    path = tmp_path / "a.safetensors"
    save_file({key: one.to(dtype) if one.is_floating_point() else one for key, one in weights.items()}, path)
    build(path)
