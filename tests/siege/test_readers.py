"""Readers of other files: what the fuzzer found once."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import tracemalloc
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tcs_edge.data.intake import FILE as INTAKE
from tcs_edge.data.intake import Entry, Facts, Stamp, intake_bytes, open_intake
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.errors import DataError, TcsEdgeError, UnknownName
from tcs_edge.export.preprocess import read_labels
from tcs_edge.gate.limits import GateLimits
from tcs_edge.models.safetensors_file import read_shapes
from tcs_edge.profiling.device import main as device
from tcs_edge.profiling.device.rounds import State
from tcs_edge.profiling.device.session import OtherMeasurement, load_state
from tcs_edge.profiling.merge import read_results
from tcs_edge.runtimes.base import stored_labels
from tcs_edge.runtimes.ncnn_file import read_param
from tcs_edge.runtimes.openvino.export import read_openvino_metadata
from tcs_edge.specs.profile import load_profile
from tcs_edge.specs.strict import validated
from tcs_edge.specs.target import load_target
from tcs_edge.teachers.feature_file import read_feature_file
from tcs_edge.utils.reading import read_regular

LONG = "a" * 5000
CORPUS = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"
BEGUN = {"plan": {"rounds": 3}, "machine": {"cpu": "a"}}


def test_a_large_limit_takes_no_memory(tmp_path):
    """A buffer of the limit does not fit into the memory of a small machine."""
    path = tmp_path / "a.npz"
    path.write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        assert read_regular(path, 4 * 2**30) == b"x" * 1000
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_file_of_unstated_size_is_read_whole():
    expected = Path("/proc/self/status")
    if not expected.is_file():
        pytest.skip("this system has no /proc")
    assert read_regular(expected).count(b"\n") > 10
    with pytest.raises(DataError, match="is larger than 0 MB"):
        read_regular(expected, 100)


def long_messages(folder: Path):
    """Yield readers whose message would repeat a text of thousands of characters."""
    (folder / "a.json").write_text(json.dumps({"schema_version": 1, "target": "x", LONG: 1}))
    yield lambda: load_profile(folder / "a.json")
    (folder / "rows.json").write_text(json.dumps({"target": "x", "rows": [LONG]}))
    yield lambda: read_results(str(folder / "rows.json"), None)
    (folder / "a.toml").write_text(f'extends = "raspberrypi5"\n[runtimes.{LONG}]\npin = "1"\n')
    yield lambda: load_target(folder / "a.toml")
    (folder / "b.toml").write_text(f'extends = "{LONG}"')
    yield lambda: load_target(folder / "b.toml")
    yield lambda: validated(GateLimits, {"change": {LONG: {LONG: 1}}}, Path("x"))
    yield lambda: Preprocess.from_json(Preprocess(32).to_json() | {"mean": [LONG, 1, 2]})
    yield lambda: Preprocess.from_json(Preprocess(32).to_json() | {"img_size": LONG})
    yield lambda: Preprocess.from_json(Preprocess(32).to_json() | {"resize": LONG})
    yield lambda: Preprocess.from_json(Preprocess(32).to_json() | {LONG: 1})
    yield lambda: Preprocess.from_json({"schema_version": LONG})
    header = json.dumps({LONG: {"dtype": "F32", "shape": [1], "data_offsets": [0, 9]}}).encode()
    (folder / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    yield lambda: read_shapes(folder / "a.safetensors")
    (folder / "labels.txt").write_text(f"{LONG}\n{LONG}\n")
    yield lambda: read_labels(folder / "labels.txt")
    (folder / "utf16.txt").write_bytes("a\n".encode("utf-16"))
    yield lambda: read_labels(folder / "utf16.txt")


def test_messages_stay_short(tmp_path):
    for read in long_messages(tmp_path):
        with pytest.raises(TcsEdgeError) as caught:
            read()
        assert len(str(caught.value)) < 800 + len(str(tmp_path))
        assert len(str(caught.value).splitlines()) == 1
    assert len(str(UnknownName("target", LONG, ["a"]))) < 200


def test_class_names_with_half_a_surrogate_pair_are_refused():
    with pytest.raises(DataError, match="not a JSON list of names"):
        stored_labels('["\udcff", "b"]', 2, "model.onnx")


@pytest.mark.parametrize("content", [b'<?xml version="1.0" encoding="nosuch"?><net/>', b"\xff\xfe", b"<net>"])
def test_metadata_of_a_spoiled_ir_is_refused(tmp_path, content):
    (tmp_path / "model.xml").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as an OpenVINO model"):
        read_openvino_metadata(tmp_path / "model.xml")


def archived(header: bytes | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an .npz file, also with another header of its features."""
    array = io.BytesIO()
    np.lib.format.write_array(array, np.ones((2, 3), np.float32))
    content = array.getvalue()
    if header is not None:
        content = content[:10] + header.ljust(len(content) - 34)[: len(content) - 34] + content[-24:]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        archive.writestr("features.npy", content)
        archive.writestr("names.npy", b"")
    return made.getvalue()


NPZ = {
    "damaged deflate": archived(compression=zipfile.ZIP_DEFLATED).replace(b"NUMPY", b"\xff" * 5)[:60] + b"\xff" * 90,
    "a bracket in the header": archived(b"{'descr': '<f4', (\n"),
    "an indented header": archived(b"  {'descr':\n 1\n  2}\n"),
    "an open text in the header": archived(b"{'descr': '''<f4, 1L\n"),
    "LZMA": archived(compression=zipfile.ZIP_LZMA),
    "BZIP2": archived(compression=zipfile.ZIP_BZIP2),
}


@pytest.mark.parametrize("name", NPZ)
def test_a_spoiled_archive_of_features_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "a.npz").write_bytes(NPZ[name])
    with pytest.raises(DataError, match=r"a\.npz") as caught:
        read_feature_file(tmp_path / "a.npz")
    assert len(str(caught.value).splitlines()) == 1


def test_a_damaged_stream_of_features_is_refused(tmp_path):
    made = io.BytesIO()
    np.savez_compressed(made, features=np.random.default_rng(0).random((50, 9), np.float32), names=np.array(["a"] * 50))
    content = bytearray(made.getvalue())
    content[100:140] = b"\xff" * 40
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        read_feature_file(tmp_path / "a.npz")


def test_features_with_null_as_metadata_are_refused(tmp_path):
    """The library reads null as no metadata."""
    content = (CORPUS / "features.safetensors" / "c48db6932f5a32a9").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="It needs features"):
        read_feature_file(tmp_path / "a.safetensors")


def test_a_parquet_file_that_aborts_pyarrow_is_refused(tmp_path):
    """The library ends the process while it reads the sizes in the file's footer."""
    pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    (tmp_path / "a.parquet").write_bytes((CORPUS / "features.parquet" / "f952804de4fd8338").read_bytes())
    with pytest.raises(DataError, match="cannot be read as Parquet: ") as caught:
        read_feature_file(tmp_path / "a.parquet")
    assert len(str(caught.value).splitlines()) == 1


def test_long_names_of_arrays_are_cut(tmp_path):
    np.savez(tmp_path / "a.npz", **{"a" * 5000: np.ones((2, 2))})
    with pytest.raises(DataError, match="It needs features") as caught:
        read_feature_file(tmp_path / "a.npz")
    assert len(str(caught.value)) < 600 + len(str(tmp_path))


STATES = {
    "not JSON": "{",
    "brackets": "[" * 100_000,
    "a list": "[]",
    "no settings": "{}",
    "settings of another type": '{"begun": 3}',
    "an unknown key": json.dumps({"begun": BEGUN, "state": asdict(State()) | {"x": 1}}),
    "a missing state": json.dumps({"begun": BEGUN}),
    "samples of another type": json.dumps({"begun": BEGUN, "state": asdict(State()) | {"samples": "x"}}),
    "a visit without samples": json.dumps({"begun": BEGUN, "state": asdict(State()) | {"samples": {"a": [[]]}}}),
    "a text as latency": json.dumps({"begun": BEGUN, "state": asdict(State()) | {"samples": {"a": [["x"]]}}}),
    "no number": json.dumps({"begun": BEGUN, "state": {"pace": {"a": float("nan")}}}),
    "a latency of zero": json.dumps({"begun": BEGUN, "state": asdict(State()) | {"pace": {"a": 0.0}}}),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_a_damaged_state_of_a_measurement_is_named(tmp_path, name):
    (tmp_path / "measured.json").write_text(STATES[name])
    with pytest.raises(OtherMeasurement, match=r"has a damaged measured\.json"):
        load_state(tmp_path, BEGUN)


def test_an_intact_state_of_a_measurement_is_continued(tmp_path):
    state = State(samples={"a": [[1.0, 2.0]]}, waits={"a": [0.0]}, pace={"a": 1.5}, restarts={"a": 1})
    (tmp_path / "measured.json").write_text(json.dumps({"begun": BEGUN, "state": asdict(state)}))
    assert load_state(tmp_path, BEGUN) == state


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 100_000, '{"target": 1, "threads": [1], "graphs": []}', '{"threads": [1], "graphs": [{}]}',
     '{"target": "a", "threads": [1], "graphs": [{"model": "a", "precision": "fp32", "img_size": 32, "sha256": "0", '
     '"file": "../x"}]}'],
)  # fmt: skip
def test_a_damaged_profiler_bundle_is_named(tmp_path, capsys, text):
    (tmp_path / "bundle.json").write_text(text)
    assert device.main(tmp_path, []) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: bundle.json is damaged: ")


PARAM = "7767517\n2 2\nInput in0 0 1 in0\nReLU relu 1 1 in0 out0 {}\n"


@pytest.mark.parametrize("word", ["\u00b2=1", "\u0663=1", "--1=2", "1" * 5000 + "=2", "-=1", "=1", "x=1"])
def test_a_key_of_an_ncnn_layer_that_is_no_number_is_refused(tmp_path, word):
    (tmp_path / "model.param").write_text(PARAM.format(word))
    with pytest.raises(DataError, match="instead of KEY=VALUE"):
        read_param(tmp_path / "model.param")
    (tmp_path / "model.param").write_text(PARAM.format("0=0.1 -23300=1,2"))
    assert len(read_param(tmp_path / "model.param")) == 2


ENTRY = Entry(Stamp(9, 10, 11), 12, Facts(bytes(32), 3, 4, None, False, bytes(48)))
SPOILED = {
    "a schema that is not text": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = CAST(x'FFFE' AS TEXT)",
    "a number as hash": "UPDATE images SET sha256 = 5",
    "a text as size": "UPDATE images SET size = 'x'",
    "bytes as height": "UPDATE images SET height = x'00'",
    "a fraction as time": "UPDATE images SET read_ns = 0.5",
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_store_of_checks_is_not_used(tmp_path, name):
    with open_intake(tmp_path) as intake:
        intake.add([("/photos", "a.jpg", ENTRY)])
    with contextlib.closing(sqlite3.connect(tmp_path / INTAKE)) as connection:
        connection.executescript(SPOILED[name])
    intake_bytes(tmp_path)
    with open_intake(tmp_path) as intake:
        assert intake.entries("/photos", ["a.jpg"]) == {}
        intake.add([("/photos", "a.jpg", ENTRY)])
    with open_intake(tmp_path) as intake:
        assert intake.entries("/photos", ["a.jpg"]) == {"a.jpg": ENTRY}
