"""Peak memory of a graph, against sums computed by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tcs_edge.errors import DataError
from tcs_edge.export.memory import estimated_peak_memory_mb


def save(path, nodes, batch: int | str = 1, weights=()) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 1000]) for name in ("image", "logits")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], list(weights))), path)


def relu(source: str, result: str):
    return helper.make_node("Relu", [source], [result])


def test_a_chain_needs_two_activations_at_a_time(tmp_path):
    save(tmp_path / "m.onnx", [relu("image", "a"), relu("a", "b"), relu("b", "logits")])
    assert estimated_peak_memory_mb(tmp_path / "m.onnx") == 2 * 4000 / 1e6


def test_a_shortcut_keeps_its_source_alive(tmp_path):
    nodes = [relu("image", "a"), relu("a", "b"), helper.make_node("Add", ["image", "b"], ["logits"])]
    save(tmp_path / "m.onnx", nodes)
    assert estimated_peak_memory_mb(tmp_path / "m.onnx") == 3 * 4000 / 1e6


def test_weights_count_once_and_always(tmp_path):
    weight = numpy_helper.from_array(np.ones(1000, dtype=np.float16).astype(np.float32), "w")
    nodes = [helper.make_node("Add", ["image", "w"], ["a"]), helper.make_node("Mul", ["a", "w"], ["logits"])]
    save(tmp_path / "m.onnx", nodes, weights=[weight])
    assert estimated_peak_memory_mb(tmp_path / "m.onnx") == 3 * 4000 / 1e6


def test_a_dynamic_shape_has_no_peak_memory(tmp_path):
    save(tmp_path / "m.onnx", [relu("image", "logits")], batch="batch")
    assert estimated_peak_memory_mb(tmp_path / "m.onnx") is None


def test_a_shape_beyond_any_memory_has_no_peak_memory(tmp_path):
    node = helper.make_node("Relu", ["image"], ["logits"])
    huge = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2**62] * 30)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3])
    onnx.save(helper.make_model(helper.make_graph([node], "g", [image], [huge])), tmp_path / "m.onnx")
    assert estimated_peak_memory_mb(tmp_path / "m.onnx") is None


def test_an_unreadable_file_has_no_peak_memory(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"\x00garbage" * 9)
    with pytest.raises(DataError, match="cannot be read as ONNX"):
        estimated_peak_memory_mb(tmp_path / "m.onnx")
