"""A bare model file cannot have a smaller number than its bytes and shapes have."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tcs_edge.errors import DataError
from tcs_edge.gate.subject import load_subject
from tcs_edge.runtimes.base import stored_labels

LIMITS = ("--max-size-mb", 100, "--max-params-m", 10, "--max-peak-memory-mb", 100)
RELU = helper.make_node("Relu", ["x"], ["y"])


def value(name: str, shape: list[int] | None = None):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8] if shape is None else shape)


def model(*initializers, nodes=(RELU,), inputs=None, **more):
    graph = helper.make_graph(list(nodes), "g", inputs or [value("x")], [value("y")], list(initializers), **more)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def tensor(dims: list[int], data_type: int = TensorProto.FLOAT, **fields):
    return TensorProto(name="w", dims=dims, data_type=data_type, **fields)


def external(location: str, **facts: object):
    made = tensor([4], data_location=TensorProto.EXTERNAL)
    for key, text in ({"location": location} | facts).items():
        made.external_data.add(key=key, value=str(text))
    return made


def constant(array: np.ndarray):
    return helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(array, "c"))


def inner(*initializers):
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "b", [], [value("z")], list(initializers))
    return helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)


def saved(folder: Path, made) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def numbers(path: Path) -> dict[str, float | None]:
    return {measure.key: measure.value for measure in load_subject(path).measures}


WEIGHTS = numpy_helper.from_array(np.ones((4, 5), np.float32), "w")
COUNTED = {
    "an initializer that no node reads": (model(WEIGHTS), 20),
    "a constant node": (model(nodes=(constant(np.ones(30, np.float32)), RELU)), 30),
    "a constant node with a list": (
        model(nodes=(helper.make_node("Constant", [], ["c"], value_floats=[1.0] * 7), RELU)),
        7,
    ),
    "int8": (model(numpy_helper.from_array(np.ones(20, np.int8), "w")), 20),
    "int4": (model(helper.make_tensor("w", TensorProto.INT4, [3], [1, 2, 3])), 3),
    "typed values": (model(helper.make_tensor("w", TensorProto.FLOAT16, [2], [1.0, 2.0])), 2),
    "a short int64 shape": (model(numpy_helper.from_array(np.ones(4, np.int64), "w")), 0),
    "weights in int64": (model(numpy_helper.from_array(np.ones(1024, np.int64), "w")), 1024),
    "weights in bool": (model(numpy_helper.from_array(np.ones(2000, bool), "w")), 2000),
    "a sparse initializer": (
        model(
            sparse_initializer=[
                helper.make_sparse_tensor(
                    numpy_helper.from_array(np.ones(3, np.float32), "w"),
                    numpy_helper.from_array(np.arange(3), "i"),
                    [100],
                )
            ]
        ),
        3,
    ),
    "inner graphs": (model(nodes=(constant(np.array(True)), inner(WEIGHTS))), 40),
}


@pytest.mark.parametrize("name", COUNTED)
def test_every_tensor_counts(tmp_path, name):
    made, parameters = COUNTED[name]
    found = numbers(saved(tmp_path, made))
    assert found["params_m"] == parameters / 1e6
    assert found["size_mb"] == (tmp_path / "model.onnx").stat().st_size / 1e6


def test_int64_counts_for_memory_and_size(tmp_path):
    small = numbers(saved(tmp_path, model()))
    large = numbers(saved(tmp_path, model(numpy_helper.from_array(np.ones(100, np.int64), "w"))))
    assert large["peak_memory_mb"] - small["peak_memory_mb"] == pytest.approx(800 / 1e6)
    assert large["size_mb"] - small["size_mb"] > 800 / 1e6


def segmented():
    made = tensor([1], raw_data=b"1234")
    made.segment.begin = 0
    return made


DOUBTFUL = {
    "a negative axis": (model(tensor([-1, 370_000])), "has a negative axis"),
    "an absurd axis": (model(tensor([2**62])), "is too large"),
    "an overflow": (model(tensor([2**32, 2**32])), "is too large"),
    "2,000 axes": (model(tensor([1] * 2000)), "is too large"),
    "fewer bytes than the shape": (model(tensor([4], raw_data=b"1234")), "4 bytes, its shape and type need 16"),
    "more bytes than the shape": (model(tensor([1], raw_data=b"12345678")), "8 bytes, its shape and type need 4"),
    "fewer values than the shape": (model(tensor([4], float_data=[1.0])), "1 values, its shape and type need 4"),
    "values of another type": (model(tensor([1], int32_data=[1])), "in int32_data instead of float_data"),
    "values in two places": (model(tensor([1], raw_data=b"1234", float_data=[1.0])), "two places"),
    "an unknown type": (model(tensor([4], 99)), "data type 99 is unknown"),
    "no type": (model(tensor([4], 0)), "data type 0 is unknown"),
    "segments": (model(segmented()), "segments"),
    "two tensors of one name": (model(WEIGHTS, WEIGHTS), "two tensors have the name 'w'"),
    "missing external data": (model(external("gone.bin")), "gone.bin is missing"),
    "a folder as external data": (model(external(".")), "is missing"),
    "an offset after the end": (model(external("data.bin", offset=2**62, length=16)), "ends after the end of data.bin"),
    "a shorter length": (model(external("data.bin", length=4)), "4 bytes, its shape and type need 16"),
    "a negative offset": (model(external("data.bin", offset=-4)), "is not a number"),
    "a constant without its bytes": (
        model(nodes=(helper.make_node("Constant", [], ["c"], value=tensor([9])), RELU)),
        "0 values, its shape and type need 9",
    ),
    "an inner graph without its bytes": (
        model(nodes=(constant(np.array(True)), inner(tensor([9])))),
        "0 values, its shape and type need 9",
    ),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_doubtful_tensor_fails_every_limit_on_it(cli, tmp_path, name):
    made, words = DOUBTFUL[name]
    (tmp_path / "data.bin").write_bytes(b"1234" * 4)
    result = cli("gate", saved(tmp_path, made), *LIMITS)
    assert result.exit_code == 1, result.output
    assert f"FAIL parameters: cannot check this limit: {'' if words.startswith('two') else 'tensor'}" in result.stdout
    assert "FAIL peak memory: cannot check this limit: " in result.stdout
    assert "FAIL tensors match the bytes: cannot check this model: " in result.stdout
    assert words in result.stdout


def with_domain(made, domain: str, version: int = 1):
    made.opset_import.append(helper.make_opsetid(domain, version))
    return made


@pytest.mark.parametrize("embedded", [0, 1])
def test_a_compiled_model_in_an_operator_fails(cli, tmp_path, embedded):
    """It can be in a file beside the model, which no size includes."""
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", embed_mode=embedded,
                            ep_cache_context="weights.bin")  # fmt: skip
    (tmp_path / "weights.bin").write_bytes(b"1" * 500_000)
    path = saved(tmp_path, with_domain(model(nodes=(node,)), "com.microsoft"))
    result = cli("gate", path, "--max-size-mb", 0.1, "--max-params-m", 0.1)
    assert result.exit_code == 1, result.output
    assert "the operator EPContext stands for a compiled model" in result.stdout


def test_parameters_of_an_operator_that_no_runtime_has_are_unknown(cli, tmp_path):
    path = saved(tmp_path, with_domain(model(nodes=(helper.make_node("Own", ["x"], ["y"], domain="own"),)), "own"))
    result = cli("gate", path, "--max-params-m", 10)
    assert result.exit_code == 1, result.output
    assert "FAIL parameters: cannot check this limit: the operator 'Own' of the domain 'own'" in result.stdout
    assert cli("gate", path, "--max-size-mb", 1).exit_code == 0


NO_MEMORY = {
    "a negative axis of an input": model(inputs=[value("x", [-1, 3, 2**40, 2**40])]),
    "a shape that contradicts its operator": model(
        nodes=(helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Relu", ["h"], ["y"])),
        value_info=[value("h", [1, 1, 1, 1])],
    ),
    "an unknown operator": model(nodes=(helper.make_node("NoSuchOp", ["x"], ["h"]), RELU)),
    "an operator of another domain": model(nodes=(helper.make_node("Own", ["x"], ["h"], domain="own"), RELU)),
    "inner graphs": model(nodes=(constant(np.array(True)), inner())),
}


@pytest.mark.parametrize("name", NO_MEMORY)
def test_memory_that_cannot_be_estimated_fails_its_limit(cli, tmp_path, name):
    result = cli("gate", saved(tmp_path, NO_MEMORY[name]), "--max-peak-memory-mb", 1000)
    assert result.exit_code == 1, result.output
    assert "FAIL peak memory: cannot check this limit: " in result.stdout


@pytest.mark.parametrize("location", ["/etc/passwd", "../x", "", "a\0b", "x" * 5000, "link", "/dev/zero"])
def test_external_data_elsewhere_is_refused(cli, tmp_path, location):
    (tmp_path / "link").symlink_to("/etc/passwd")
    result = cli("gate", saved(tmp_path, model(external(location))), *LIMITS)
    assert result.exit_code == 2
    assert "beside the model" in result.stderr


def ir(*constants: str, body: str = "") -> str:
    layers = "".join(f'<layer type="Const"><data {data}/></layer>' for data in constants)
    return f"<net><layers>{layers}{body}</layers></net>"


def data(element_type: str = "f32", shape: str = "2", offset: object = 0, size: object = 8) -> str:
    return f'element_type="{element_type}" shape="{shape}" offset="{offset}" size="{size}"'


def saved_ir(folder: Path, text: str, weights: bytes = b"12345678") -> Path:
    path = folder / "model.xml"
    path.write_text(text)
    path.with_suffix(".bin").write_bytes(weights)
    return path


NESTED = '<layer type="If"><body><layers><layer type="Const"><data {}/></layer></layers></body></layer>'
IRS = {
    "one constant": (ir(data()), 2),
    "two constants on the same bytes": (ir(data(), data()), 4),
    "an inner network": (ir(body=NESTED.format(data())), 2),
    "4 bits": (ir(data("u4", "16")), 16),
    "a scalar": (ir(data(shape="", size=4), data(shape="1", offset=4, size=4)), 2),
    "a short i64 shape": (ir(data("i64", "1")), 0),
}


@pytest.mark.parametrize("name", IRS)
def test_every_constant_of_an_ir_counts(tmp_path, name):
    text, parameters = IRS[name]
    assert numbers(saved_ir(tmp_path, text))["params_m"] == parameters / 1e6


BAD_IRS = {
    "a negative axis": (ir(data(shape="-1,370000")), "has a negative axis"),
    "an absurd axis": (ir(data(shape=str(2**62))), "is too large"),
    "fewer bytes than the shape": (ir(data(shape="4")), "8 bytes, its shape and type need 16"),
    "more bytes than the shape": (ir(data(shape="1")), "8 bytes, its shape and type need 4"),
    "an unknown type": (ir(data("f128")), "type is unknown"),
    "an end after the end": (ir(data(offset=4)), "ends after the end"),
    "no offset": (ir('element_type="f32" shape="2" size="8"'), "is not a number"),
    "a negative size": (ir(data(size=-8)), "is not a number"),
    "bytes of no constant": (ir(), "belong to no constant"),
}


@pytest.mark.parametrize("name", BAD_IRS)
def test_a_doubtful_constant_fails_every_limit_on_it(cli, tmp_path, name):
    text, words = BAD_IRS[name]
    result = cli("gate", saved_ir(tmp_path, text), "--max-size-mb", 100, "--max-params-m", 10)
    assert result.exit_code == 1, result.output
    assert "FAIL parameters: cannot check this limit: " in result.stdout
    assert words in result.stdout


def test_an_ir_without_its_weights_fails(cli, tmp_path):
    path = saved_ir(tmp_path, ir(data()))
    path.with_suffix(".bin").unlink()
    result = cli("gate", path, "--max-params-m", 10)
    assert result.exit_code == 1
    assert "model.bin is missing" in result.stdout


BROKEN = {
    "garbage.onnx": b"\x00\x01garbage" * 9,
    "deep.onnx": None,
    "entities.xml": b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 50_000 + b'">]><net><layers>' + b"&a;" * 5000,
    "file.xml": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><net><layers>&a;</layers></net>',
    "encoding.xml": b'<?xml version="1.0" encoding="nosuch"?><net/>',
    "utf7.xml": b'<?xml version="1.0" encoding="utf-7"?><net/>',
    "utf16.xml": ir(data()).encode("utf-16-le"),
    "digits.xml": ir(data(shape="9" * 5000)).encode(),
    "arabic.xml": ir(data(shape="\u0663")).encode(),
    "two.xml": b'<net><layers><layer type="Const"><data/><data/></layer></layers></net>',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_line(cli, tmp_path, name):
    path = tmp_path / name
    content = BROKEN[name]
    path.write_bytes(nested(500) if content is None else content)
    result = cli("gate", path, *LIMITS)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1


def nested(depth: int) -> bytes:
    """Return an ONNX file with `depth` inner graphs, made by hand because onnx refuses to write it."""

    def field(number: int, content: bytes) -> bytes:
        length, digits = len(content), b""
        while length > 127:
            digits += bytes([length & 127 | 128])
            length >>= 7
        return bytes([number << 3 | 2]) + digits + bytes([length]) + content

    graph = field(1, RELU.SerializeToString())
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    return bytes([8, 8]) + field(7, graph)


@pytest.mark.parametrize("suffix", ["onnx", "xml", "json"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_only_regular_files_are_read(cli, tmp_path, suffix, kind):
    path = tmp_path / f"model.{suffix}"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    for arguments in ((path,), (path, "--baseline", path)):
        assert cli("gate", *arguments, *LIMITS).exit_code == 2


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "manifest.json", "weights.bin", "data.bin"])
def test_a_git_lfs_pointer_is_named(cli, tmp_path, name):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    path = tmp_path / name
    if name == "weights.bin":
        path = saved_ir(tmp_path, ir(data()), pointer)
    elif name == "data.bin":
        path.write_bytes(pointer)
        path = saved(tmp_path, model(external("data.bin")))
    else:
        path.write_bytes(pointer)
    result = cli("gate", path, *LIMITS)
    assert result.exit_code == 2
    assert "is a Git LFS pointer, not the file itself. Run: git lfs pull" in result.stderr


def test_a_real_export_has_no_doubtful_tensor(onnx_path, xml_path):
    for path in (onnx_path, xml_path):
        assert [requirement.kept for requirement in load_subject(path).requirements] == [True]
    assert onnx.load(onnx_path).graph.initializer


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '["a", NaN]', "{"])
def test_hostile_metadata_is_refused_in_one_line(text):
    with pytest.raises(DataError, match="not a JSON list of names") as caught:
        stored_labels(text, 2, "model.onnx")
    assert len(str(caught.value).splitlines()) == 1


MATRIX = numpy_helper.from_array(np.ones((5, 5), np.float32), "w")
CANNOT_RUN = {
    "an input of nowhere": model(nodes=(helper.make_node("Relu", ["z"], ["y"]),)),
    "an output of nowhere": model(nodes=(helper.make_node("Relu", ["x"], ["h"]),)),
    "nodes in the wrong order": model(
        nodes=(helper.make_node("Relu", ["h"], ["y"]), helper.make_node("Relu", ["x"], ["h"]))
    ),
    "an unknown operator": model(nodes=(helper.make_node("NoSuchOp", ["x"], ["y"]),)),
    "an unknown attribute": model(nodes=(helper.make_node("Relu", ["x"], ["y"], no_such=1),)),
    "two inputs of Relu": model(nodes=(helper.make_node("Relu", ["x", "x"], ["y"]),)),
    "a domain without a version": model(nodes=(helper.make_node("Own", ["x"], ["y"], domain="own"),)),
    "shapes that do not fit": model(MATRIX, nodes=(helper.make_node("MatMul", ["x", "w"], ["y"]),)),
    "two versions of the operators": with_domain(model(), "", 9),
    "two names of one domain": with_domain(model(), "ai.onnx", 9),
    "types that do not fit": model(
        numpy_helper.from_array(np.ones(8, np.int64), "w"), nodes=(helper.make_node("Add", ["x", "w"], ["y"]),)
    ),
}


@pytest.mark.parametrize("name", CANNOT_RUN)
def test_a_graph_that_cannot_run_passes_no_limit(cli, tmp_path, name):
    result = cli("gate", saved(tmp_path, CANNOT_RUN[name]), "--max-size-mb", 100)
    assert result.exit_code == 1, result.output
    assert "FAIL operators fit together: cannot check this model: its graph cannot run: " in result.stdout


def test_operators_newer_than_the_installed_onnx_pass_no_limit(cli, tmp_path):
    made = model()
    made.opset_import[0].version = 9999
    result = cli("gate", saved(tmp_path, made), "--max-size-mb", 100)
    assert result.exit_code == 1, result.output
    assert "its opset 9999 is newer than the installed onnx knows" in result.stdout


def calling(*bodies: list[str]):
    """A model that calls function F0; `bodies` are the functions that each function calls, or Relu without any."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    functions = []
    for number, names in enumerate(bodies):
        values = ["a", *(f"v{index}" for index in range(len(names) - 1)), "b"]
        nodes = [
            helper.make_node(name, [source], [made], domain="own")
            for name, source, made in zip(names, values, values[1:], strict=False)
        ] or [helper.make_node("Relu", ["a"], ["b"])]
        functions.append(helper.make_function("own", f"F{number}", ["a"], ["b"], nodes, opsets))
    call = helper.make_node("F0", ["x"], ["y"], domain="own")
    graph = helper.make_graph([call], "g", [value("x")], [value("y")])
    return helper.make_model(graph, opset_imports=opsets, functions=functions)


@pytest.mark.parametrize(
    ("bodies", "message"),
    [
        ([[f"F{number + 1}"] * 2 for number in range(40)] + [[]], "more than 1,000,000 operators"),
        ([[f"F{number + 1}"] for number in range(20_000)] + [[]], "more than 50 levels deep"),
        ([["F1"], ["F0"]], "call each other"),
        ([["F0", "F0"]], "call each other"),
    ],
)
def test_calls_of_functions_that_nothing_can_follow_are_refused(cli, tmp_path, bodies, message):
    """They kept the check of the shapes busy for ever, or ended the process."""
    done = cli("gate", saved(tmp_path, calling(*bodies)), "--max-size-mb", 100)
    assert done.exit_code == 1
    assert message in done.output


def test_functions_that_call_functions_pass(cli, tmp_path):
    path = saved(tmp_path, calling(["F1", "F2"], ["F2", "F2"], []))
    assert cli("gate", path, "--max-size-mb", 100).exit_code == 0


def test_stored_shapes_that_a_runtime_computes_again_are_no_defect(cli, tmp_path):
    stale = model(
        nodes=(helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Relu", ["h"], ["y"])),
        value_info=[value("h", [1, 1, 1, 1])],
    )
    assert cli("gate", saved(tmp_path, stale), "--max-size-mb", 100).exit_code == 0


def test_a_link_in_place_of_a_model_is_refused(cli, tmp_path, onnx_path, xml_path):
    (tmp_path / "model.onnx").symlink_to(onnx_path)
    (tmp_path / "model.xml").write_bytes(xml_path.read_bytes())
    (tmp_path / "model.bin").symlink_to(xml_path.with_suffix(".bin"))
    for path, link in (("model.onnx", "model.onnx"), ("model.xml", "model.bin")):
        result = cli("gate", tmp_path / path, "--max-size-mb", 100)
        assert result.exit_code == 2
        assert f"{tmp_path / link} is a symbolic link" in result.stderr
    assert cli("gate", onnx_path, "--max-size-mb", 100).exit_code == 0
