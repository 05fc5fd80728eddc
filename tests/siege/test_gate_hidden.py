"""Weights that hide in small pieces, in texts, in attributes and in markup still count, or fail the gate."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tcs_edge.errors import UsageError
from tcs_edge.export.memory import estimated_peak_memory_mb
from tcs_edge.gate.subject import load_subject

SHAPE = [1, 3, 8, 8]
UINT2 = 25  # by number, which onnx without this type has too
RELU = helper.make_node("Relu", ["x"], ["y"])


def value(name: str, shape: list[int] | None = None, kind: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, SHAPE if shape is None else shape)


def model(*initializers, nodes=(RELU,), inputs=None, outputs=None, functions=(), **more):
    graph = helper.make_graph(
        list(nodes), "g", inputs or [value("x")], outputs or [value("y")], list(initializers), **more
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions))


def saved(folder: Path, made: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def measured(path: Path) -> dict[str, float | None]:
    return {measure.key: measure.value for measure in load_subject(path).measures}


def array(dtype: object, count: int, name: str = "w"):
    return numpy_helper.from_array(np.ones(count, dtype), name)


def constants(count: int, **content: object):
    return [helper.make_node("Constant", [], [f"c{index}"], **content) for index in range(count)]


def double(**content: object):
    """A function of the model with one constant node, and a call of it."""
    nodes = [helper.make_node("Constant", [], ["c"], **content), helper.make_node("Relu", ["a"], ["b"])]
    function = helper.make_function("own", "Double", ["a"], ["b"], nodes, [helper.make_opsetid("", 18)])
    return model(nodes=(helper.make_node("Double", ["x"], ["y"], domain="own"),), functions=[function])


HIDDEN = {
    "int64 in many small tensors": (model(*(array(np.int64, 1000, f"w{i}") for i in range(3))), 3000),
    "bool and int64 together": (model(array(np.int64, 600), array(bool, 600, "v")), 1200),
    "texts": (model(helper.make_tensor("w", TensorProto.STRING, [2000], [b"0.5"] * 2000)), 2000),
    "a long text": (model(helper.make_tensor("w", TensorProto.STRING, [1], [b"0.5," * 2000])), 2000),
    "whole numbers of a constant": (model(nodes=(*constants(1, value_ints=list(range(2000))), RELU)), 2000),
    "whole numbers of many constants": (model(nodes=(*constants(40, value_ints=list(range(50))), RELU)), 2000),
    "one number of many constants": (model(nodes=(*constants(2000, value_float=0.5), RELU)), 2000),
    "one whole number of many constants": (model(nodes=(*constants(2000, value_int=5), RELU)), 2000),
    "texts of a constant": (model(nodes=(*constants(1, value_strings=["0.5"] * 2000), RELU)), 2000),
    "a long text of a constant": (model(nodes=(*constants(1, value_string="0.5," * 2000), RELU)), 2000),
    "the bytes of an operator": (
        model(nodes=(helper.make_node("Other", ["x"], ["y"], domain="com.microsoft", blob=b"1234" * 2000),)),
        2000,
    ),
    "whole numbers of a tree": (
        model(nodes=(helper.make_node("Tree", ["x"], ["y"], domain="ai.onnx.ml", ids=list(range(2000))),)),
        2000,
    ),
    "a function of the model": (double(value_floats=[0.5] * 2000), 2000),
    "whole numbers in a function": (double(value_ints=[1] * 2000), 2000),
    "the paddings of an operator": (
        model(nodes=(helper.make_node("Conv", ["x", "x"], ["y"], pads=[0] * 4, kernel_shape=[3, 3], mode="V"),)),
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_weights_count(tmp_path, name):
    made, parameters = HIDDEN[name]
    assert measured(saved(tmp_path, made))["params_m"] == parameters / 1e6


def sparse(count: int = 3, positions: object = None, dims: list[int] | None = None):
    found = np.arange(count) if positions is None else np.asarray(positions)
    values = numpy_helper.from_array(np.ones(count, np.float32), "s")
    made = onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(found, "i"), dims=dims or [9])
    return model(sparse_initializer=[made])


TWICE = (helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Relu", ["h"], ["y"]))
DOUBTFUL = {
    "a sparse tensor of negative size": (sparse(dims=[-9]), "has a negative axis"),
    "more values than a sparse tensor has": (sparse(dims=[2]), "contradict each other"),
    "fewer positions than values": (sparse(positions=[0]), "contradict each other"),
    "positions of another type": (sparse(positions=np.arange(3.0)), "contradict each other"),
    "a value with the name of a tensor": (
        model(numpy_helper.from_array(np.ones(1, np.float32), "h"), nodes=TWICE),
        "two values have the name 'h'",
    ),
    "a value that two nodes make": (model(nodes=(*TWICE, TWICE[0])), "two values have the name 'h'"),
    "a node that makes the input": (model(nodes=(helper.make_node("Relu", ["x"], ["x"]), RELU)), "the name 'x'"),
    "two shapes of a value": (
        model(nodes=TWICE, value_info=[value("h"), value("h", [1, 1, 1, 1])]),
        "'h' has two shapes",
    ),
    "two shapes of an output": (model(outputs=[value("y"), value("y", [1, 1, 1, 1])]), "'y' has two shapes"),
    "4 bits, one byte short": (
        model(TensorProto(name="w", dims=[3], data_type=TensorProto.INT4, raw_data=b"1")),
        "1 bytes, its shape and type need 2",
    ),
    "2 bits, one byte more": (
        model(TensorProto(name="w", dims=[4], data_type=UINT2, raw_data=b"12")),
        "2 bytes, its shape and type need 1",
    ),
}


def test_a_graph_without_output_fails(cli, tmp_path):
    made = model()
    del made.graph.output[:]
    result = cli("gate", saved(tmp_path, made), "--max-size-mb", 100)
    assert result.exit_code == 1, result.output
    assert "its graph has no output" in result.stdout


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_does_not_add_up_fails(cli, tmp_path, name):
    made, words = DOUBTFUL[name]
    result = cli("gate", saved(tmp_path, made), "--max-size-mb", 100, "--max-params-m", 10)
    assert result.exit_code == 1, result.output
    assert words in result.stdout


@pytest.mark.parametrize("number", [23, 24, 25, 26])
def test_types_that_an_older_onnx_has_no_names_for_count(tmp_path, number):
    bits = {23: 4, 24: 8, 25: 2, 26: 2}[number]
    made = model(onnx.TensorProto(name="w", dims=[8], data_type=number, raw_data=bytes(bits)))
    assert measured(saved(tmp_path, made))["params_m"] == 8 / 1e6


def test_an_initializer_that_is_an_input_too_is_valid(tmp_path):
    made = model(array(np.float32, 4), inputs=[value("x"), value("w", [4])])
    made.ir_version = 3
    assert measured(saved(tmp_path, made))["params_m"] == 4 / 1e6


NO_MEMORY = {
    "an input without elements": model(inputs=[value("x", [0, 3, 8, 8])], outputs=[value("y", [0, 3, 8, 8])]),
    "an unknown type of a value": model(nodes=TWICE, value_info=[value("h", kind=99)]),
    "an unknown type of an input": model(inputs=[value("x", kind=99)]),
}


@pytest.mark.parametrize("name", NO_MEMORY)
def test_memory_without_a_basis_fails_its_limit(cli, tmp_path, name):
    result = cli("gate", saved(tmp_path, NO_MEMORY[name]), "--max-peak-memory-mb", 1000)
    assert result.exit_code == 1, result.output
    assert "FAIL peak memory: cannot check this limit: " in result.stdout


def test_memory_of_many_values_that_stay_takes_seconds(tmp_path):
    """All values are read by the last node, so each node has all earlier ones alive."""
    count = 20_000
    nodes = [helper.make_node("Relu", ["x"], [f"h{index}"]) for index in range(count)]
    nodes.append(helper.make_node("Sum", [f"h{index}" for index in range(count)], ["y"]))
    path = saved(tmp_path, model(nodes=nodes))
    began = time.process_time()
    assert estimated_peak_memory_mb(path) == pytest.approx((count + 1) * 3 * 64 * 4 / 1e6)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("spoiled", [b"NAMEw", b"NAMEx", b"data.bin"])
def test_names_that_are_not_text_are_refused(tmp_path, spoiled):
    made = TensorProto(name="NAMEw", dims=[4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    made.external_data.add(key="location", value="data.bin")
    content = model(made, inputs=[value("NAMEx")]).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content.replace(spoiled, b"\xff" * len(spoiled)))
    with pytest.raises(UsageError, match="text that is not UTF-8"):
        load_subject(path)


def ir(*constants: str, head: str = "", net: str = "net") -> str:
    layers = "".join(f'<layer type="Const"><data {data}/></layer>' for data in constants)
    return f"{head}<{net}><layers>{layers}</layers></net>"


def data(kind: str, shape: str, offset: int, size: int) -> str:
    return f'element_type="{kind}" shape="{shape}" offset="{offset}" size="{size}"'


def saved_ir(folder: Path, content: str | bytes, stored: int) -> Path:
    path = folder / "model.xml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.with_suffix(".bin").write_bytes(bytes(stored))
    return path


IRS = {
    "i64 in many small constants": (ir(*(data("i64", "1000", 8000 * i, 8000) for i in range(3))), 24_000, 3000),
    "texts": (ir(data("string", "1", 0, 8000)), 8000, 2000),
    "single bits": (ir(data("u1", "512", 0, 64), data("u1", "512", 64, 64)), 128, 1024),
    "4 bits, an odd number": (ir(data("i4", "3", 0, 2)), 2, 3),
    "overlapping constants": (ir(data("f32", "100", 0, 400), data("f32", "100", 200, 400)), 600, 200),
}


@pytest.mark.parametrize("name", IRS)
def test_hidden_constants_of_an_ir_count(tmp_path, name):
    text, stored, parameters = IRS[name]
    assert measured(saved_ir(tmp_path, text, stored))["params_m"] == parameters / 1e6


SMALL = data("f64", "1", 0, 8)
LAYER = f'<layer xmlns="y" type="Const"><data {data("f32", "2", 0, 8)}/></layer>'
MARKUP = {
    "a namespace that hides a constant": ir(SMALL).replace("</layers>", LAYER + "</layers>"),
    "a namespace of the whole file": ir(SMALL, net='net xmlns="y"'),
    "a document type": ir(SMALL, head="<!DOCTYPE net>"),
    "an entity": ir(SMALL, head='<!DOCTYPE net [<!ENTITY a "b">]>'),
    "another encoding": ir(SMALL, head='<?xml version="1.0" encoding="cp500"?>'),
    "latin-1": ir(SMALL, head='<?xml version="1.0" encoding="iso-8859-1"?>').encode(),
    "UTF-16": ir(SMALL).encode("utf-16"),
    "deep nesting": "<net><layers>" + "<a>" * 100_000 + "</a>" * 100_000 + "</layers></net>",
    "bytes that are not text": ir(SMALL).encode().replace(b"f64", b"\xff64"),
}  # fmt: skip


@pytest.mark.parametrize("name", MARKUP)
def test_markup_that_two_parsers_read_in_two_ways_is_refused(cli, tmp_path, name):
    result = cli("gate", saved_ir(tmp_path, MARKUP[name], 8), "--max-params-m", 10)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1


def test_a_pipe_in_place_of_the_weights_does_not_wait(cli, tmp_path):
    path = saved_ir(tmp_path, ir(SMALL), 8)
    path.with_suffix(".bin").unlink()
    os.mkfifo(path.with_suffix(".bin"))
    result = cli("gate", path, "--max-params-m", 10)
    assert result.exit_code == 1
    assert "model.bin is missing" in result.stdout
