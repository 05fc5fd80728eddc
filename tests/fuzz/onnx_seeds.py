"""Small ONNX files with every place for tensors: initializers, constants, inner graphs, functions, external data."""

from __future__ import annotations

import numpy as np
import onnx
from mutate import SPLIT
from onnx import TensorProto, helper, numpy_helper

SHAPE = [1, 3, 8, 8]


def _value(name: str, kind: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, SHAPE)


def _weights(name: str = "w", dtype: type = np.float32, count: int = 3):
    return numpy_helper.from_array(np.ones((count, 1, 1), dtype), name)


def _model(nodes, initializers=(), functions=(), **more) -> bytes:
    graph = helper.make_graph(list(nodes), "g", [_value("x")], [_value("y")], list(initializers), **more)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    made = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    helper.set_model_props(made, {"labels": '["a", "b"]', "precision": "fp32"})
    return made.SerializeToString()


def _external():
    made = TensorProto(name="w", dims=[3, 1, 1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "data.bin", "offset": "0", "length": "12"}.items():
        made.external_data.add(key=key, value=value)
    return made


def graphs() -> list[bytes]:
    """Return the files, each with the bytes of data.bin behind it."""
    add = helper.make_node("Add", ["x", "w"], ["y"])
    constant = helper.make_node("Constant", [], ["w"], value=_weights())
    listed = helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0])
    condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True), "c"))
    body = helper.make_graph([helper.make_node("Add", ["x", "v"], ["z"])], "b", [], [_value("z")], [_weights("v")])
    inner = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    call = helper.make_node("Double", ["x"], ["y"], domain="own")
    opset = [helper.make_opsetid("", 18)]
    function = helper.make_function("own", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opset)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(2, np.float32), "s"), numpy_helper.from_array(np.arange(2), "i"), [9]
    )
    four = helper.make_tensor("q", TensorProto.INT4, [3], [1, 2, 3])
    text = helper.make_tensor("t", TensorProto.STRING, [2], [b"a", b"b"])
    relus = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    files = (
        _model([add], [_weights()]),
        _model([constant, listed, add]),
        _model([condition, inner]),
        _model([call], functions=[function]),
        _model(relus, [four, text], value_info=[_value("h")]),
        _model(relus, sparse_initializer=[sparse]),
        _model([add], [_external()]),
    )
    for file in files:
        onnx.load_from_string(file)
    return [file + SPLIT + bytes(12) for file in files]
