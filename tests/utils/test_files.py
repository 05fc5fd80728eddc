"""Tests of atomic writing, JSON documents, hashes and file records."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.errors import DataError, MissingError, SpecError
from tcs_edge.utils.files import (
    atomic_path,
    make_folder,
    record_files,
    sha256_file,
    write_bytes,
    write_json,
    write_text,
)
from tcs_edge.utils.reading import MAX_DOCUMENT_BYTES, is_file, parse_json, read_json, read_toml


def write_half_and_raise(target: Path, error: type[BaseException]) -> None:
    with atomic_path(target) as draft:
        draft.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_failing_block_leaves_the_target_unchanged(tmp_path, error, before):
    target = tmp_path / "model.onnx"
    if before is not None:
        target.write_bytes(before)
    with pytest.raises(error):
        write_half_and_raise(target, error)
    assert [path.name for path in tmp_path.iterdir()] == ([] if before is None else ["model.onnx"])
    assert before is None or target.read_bytes() == before


def test_the_target_does_not_exist_during_the_block(tmp_path):
    target = tmp_path / "deep" / "model.onnx"
    with atomic_path(target) as draft:
        draft.write_bytes(b"half")
        assert not target.exists()
        assert draft.parent == target.parent
        assert draft.suffix == ".onnx"
    assert target.read_bytes() == b"half"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EACCES, "permission"),
        (errno.EFBIG, "cannot be written: no"),
    ],
)
def test_write_errors_of_the_system_are_one_line(tmp_path, monkeypatch, code, message):
    def refuse(_handle: int) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(MissingError, match=message) as caught:
        write_bytes(tmp_path / "weights", b"data")
    assert str(tmp_path / "weights") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_other_os_errors_are_raised_unchanged(tmp_path):
    with pytest.raises(OSError), atomic_path(tmp_path / "never-written"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_with_nan_or_inf_is_refused(tmp_path, number):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"schema_version": 1, "value": [number]})
    assert list(tmp_path.iterdir()) == []


def test_json_without_schema_version_is_refused(tmp_path):
    with pytest.raises(ValueError, match="schema_version"):
        write_json(tmp_path / "a.json", {"value": 1})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
        st.characters(exclude_categories=["Cs"])
    ),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text("abcé\n\"", max_size=3), below, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(VALUES)
def test_json_round_trip_keeps_the_document(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, {"schema_version": 3, "value": value})
    assert read_json(path, 3) == {"schema_version": 3, "value": value}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"schema_version": 2}', b"{}", b'{"schema_version": "1"}']
)
def test_other_content_or_versions_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json"):
        read_json(tmp_path / "a.json", 1)


def test_a_missing_document_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "a.json", 1)


HEAD = b'{"schema_version": 1, '
SPOILED = {
    "two equal keys": (HEAD + b'"verdict": "fail", "verdict": "pass"}', "'verdict' appears twice"),
    "NaN": (HEAD + b'"a": NaN}', "NaN is not a JSON number"),
    "Infinity": (HEAD + b'"a": -Infinity}', "Infinity is not a JSON number"),
    "a float out of range": (HEAD + b'"a": 1e999}', "1e999 is out of range"),
    "5,000 digits": (HEAD + b'"a": ' + b"9" * 5000 + b"}", "out of range"),
    "400 digits": (HEAD + b'"a": ' + b"9" * 400 + b"}", "out of range"),
    "100,000 brackets": (b"[" * 100_000, "nested more than 64 levels"),
    "100 levels": (HEAD + b'"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than 64 levels"),
    "half a surrogate pair": (HEAD + b'"a": "\\ud800"}', "not Unicode"),
    "UTF-16": ('{"schema_version": 1}'.encode("utf-16"), "UTF-16. Save it as UTF-8"),
    "NUL bytes": (b"\0" * 100, "is not JSON"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "a boolean version": (b'{"schema_version": true}', "schema_version is True"),
    "a float version": (b'{"schema_version": 1.0}', "schema_version is 1.0"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_document_is_refused_in_one_line(tmp_path, name):
    content, words = SPOILED[name]
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_json(tmp_path / "a.json", 1)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


def test_a_byte_order_mark_is_accepted(tmp_path):
    for name, content in (("a.json", '{"schema_version": 1}'), ("a.toml", "schema_version = 1")):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert read_json(tmp_path / "a.json", 1) == read_toml(tmp_path / "a.toml", "missing") == {"schema_version": 1}


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "large"])
def test_only_a_regular_file_of_bounded_size_is_read(tmp_path, kind):
    path = tmp_path / "a.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as handle:
            handle.truncate(MAX_DOCUMENT_BYTES + 1)
    with pytest.raises(DataError, match=f"a {kind}|larger than 134 MB"):
        read_json(path, 1)


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\ud800"])
def test_a_path_that_the_system_refuses_is_a_data_error(name):
    assert not is_file(Path(name))
    with pytest.raises(DataError, match="cannot be read"):
        read_json(Path(name), 1)
    with pytest.raises(SpecError, match="cannot be read"):
        read_toml(Path(name), "missing")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, "a = 0x" + "f" * 9000, f"[{'.'.join('a' * 5000)}]", "a = {"]
)
def test_a_spoiled_toml_file_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SpecError, match="is not TOML") as caught:
        read_toml(tmp_path / "a.toml", "missing")
    assert "sys.set" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


PIECES = [
    "{", "}", "[", "]", ",", ":", '"a"', '"a":', "NaN", "1e999", "-", "9" * 400, "\\ud800", '"\\ud800"', "\ufeff",
]  # fmt: skip
JOINED = st.lists(st.sampled_from(PIECES), max_size=20).map(lambda parts: "".join(parts).encode())


@given(st.binary(max_size=60) | JOINED)
def test_any_bytes_are_json_or_refused_in_one_line(content):
    try:
        document = parse_json(content, "a.json")
    except DataError as error:
        message = str(error)
    else:
        message = "read"
        assert json.dumps(document, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert len(message.splitlines()) == 1


@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps({"schema_version": 1, "a": value}).encode()))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "a.json"
    path.write_bytes(content)
    for read in (lambda: read_json(path, 1), lambda: read_toml(path, "missing")):
        with contextlib.suppress(DataError, SpecError):
            assert isinstance(read(), dict)


@given(st.binary(max_size=200))
def test_hashes_are_sha256(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("hash") / "file"
    write_bytes(path, content)
    assert sha256_file(path) == hashlib.sha256(content).hexdigest()


def test_records_are_sorted_and_relative(tmp_path):
    for name in ("b/x.bin", "a.txt"):
        write_text(tmp_path / name, "é")
    records = record_files(tmp_path, [tmp_path / "b/x.bin", tmp_path / "a.txt"])
    assert [(record.path, record.bytes) for record in records] == [("a.txt", 2), ("b/x.bin", 2)]
    assert json.dumps(records[0].to_json())
    assert not Path(records[1].path).is_absolute()


def test_a_folder_below_a_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    with pytest.raises(MissingError, match="cannot be written"):
        make_folder(tmp_path / "file" / "run")
    with pytest.raises(MissingError, match="cannot be written"):
        write_bytes(tmp_path / "file" / "run" / "x", b"data")
