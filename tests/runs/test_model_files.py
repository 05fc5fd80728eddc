"""Models of an export folder: no byte is counted twice or left out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.runs.model_files import models_of, sizes_in


def test_an_xml_and_its_bin_are_one_model() -> None:
    sizes = {"model.onnx": 10, "openvino/model.xml": 2, "openvino/model.bin": 9, "labels.txt": 1, "confidence.json": 1}
    assert models_of(sizes) == {"model.onnx": 10, "openvino/model.xml": 11}


@pytest.mark.parametrize("data", ["model.onnx.data", "model.onnx_data", "model.data"])
def test_an_onnx_file_and_its_external_data_are_one_model(data: str) -> None:
    assert models_of({data: 90, "model.onnx": 10}) == {"model.onnx": 100}


def test_rejected_files_are_grouped_too() -> None:
    sizes = {"openvino/model.xml.rejected": 2, "openvino/model.bin.rejected": 9, "labels.txt.rejected": 1}
    assert models_of(sizes) == {"openvino/model.xml.rejected": 11}


def test_a_file_of_another_model_is_a_model_of_its_own() -> None:
    sizes = {"a.bin": 5, "b.xml": 1, "other/b.bin": 7, "weights.dat": 3, "b.data": 4}
    assert models_of(sizes) == sizes


NAMES = st.sampled_from(
    ["m.onnx", "m.xml", "m.bin", "m.data", "m.onnx.data", "m.onnx_data", "x/m.bin", "x/m.xml", "n.dat"]
)


@given(st.dictionaries(NAMES, st.integers(0, 10**6)))
def test_every_byte_counts_once(sizes: dict[str, int]) -> None:
    models = models_of(sizes)
    assert sum(models.values()) == sum(sizes.values())
    assert set(models) <= set(sizes)


def test_the_estimate_and_the_check_are_of_one_quantity(finished) -> None:
    """The size that the selection compared with the limit is the largest model file of the finished run."""
    choice = json.loads((finished / "reports" / "choice.json").read_text())
    (chosen,) = [found for found in choice["candidates"] if found["chosen"]]
    models = models_of(sizes_in(finished / "export"))
    largest = max(models, key=models.__getitem__)
    assert largest == "openvino/model.xml"
    assert chosen["largest_mb"] == pytest.approx(models[largest] / 1e6, rel=0.01)
    assert chosen["size_mb"] == pytest.approx(models["model.onnx"] / 1e6, rel=0.01)
