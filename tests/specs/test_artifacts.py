"""Tests of the names of a run's model files."""

from __future__ import annotations

import pytest

from tcs_edge.specs.artifacts import PRECISIONS, onnx_file, openvino_file, pixels_file, runner_name, with_fp32


def test_float32_keeps_the_plain_names():
    assert str(onnx_file("fp32")) == "model.onnx"
    assert str(openvino_file("fp32")) == "openvino/model.xml"
    assert runner_name("onnxruntime", "fp32") == "onnxruntime"


def test_file_names_are_unique():
    names = [make(precision) for make in (onnx_file, pixels_file, openvino_file) for precision in PRECISIONS]
    assert len(set(names)) == len(names) == 9
    assert str(onnx_file("int8")) == "model.int8.onnx"
    assert runner_name("openvino", "int8") == "openvino-int8"


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        ([], ("fp32",)),
        (["int8"], ("fp32", "int8")),
        (["int8", "fp16", "int8"], ("fp32", "fp16", "int8")),
        (["fp32"], ("fp32",)),
    ],
)
def test_float32_is_always_first_and_the_order_is_fixed(wanted, made):
    assert with_fp32(wanted) == made
