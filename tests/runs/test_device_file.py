"""The model for the device: the selected runtime, at the selected precision if the run released it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tcs_edge.errors import UsageError
from tcs_edge.runs.device_file import device_file, shown_device_file
from tcs_edge.runs.schema import DatasetRecord, LatencyRecord, Manifest, ManifestFile, StudentRecord

BOTH = ("model.onnx", "openvino/model.xml", "openvino/model.bin")
INT8 = ("model.int8.onnx", "openvino/model.int8.xml", "openvino/model.int8.bin")


def manifest(files, runtimes=("onnxruntime", "openvino"), default="fp32", verdict="pass", folder="export") -> Manifest:
    records = [
        ManifestFile(path=f"{folder}/{name}", bytes=1_000_000 * (place + 1), sha256="0" * 64)
        for place, name in enumerate(files)
    ]
    target = {"name": "t", "runtimes": {name: {} for name in runtimes}, "precision": {"default": default}}
    return Manifest(
        created=datetime(2026, 3, 1, tzinfo=UTC), versions={"tcs-edge": "0"}, seed=0, teacher=None, target=target,
        options={}, stages=(),
        dataset=DatasetRecord(name="d", fingerprint="", classes=("a", "b"), counts={}, skipped=0),
        student=StudentRecord(name="s", init="random", img_size=32, params_m=1.0), accuracy={}, parity={},
        verdict=verdict, files=tuple(records), export_mb=1.0,
    )  # fmt: skip


def test_the_first_runtime_of_the_target_decides_the_format() -> None:
    found = device_file(manifest(BOTH))
    assert str(found) == "model.onnx (ONNX, fp32, 1.00 MB)"
    assert (found.runtime, found.runner) == ("onnxruntime", "onnxruntime")
    found = device_file(manifest(BOTH, runtimes=("openvino",)))
    assert str(found) == "openvino/model.xml (OpenVINO IR, fp32, 5.00 MB)", "the .bin counts"


@pytest.mark.parametrize(
    ("files", "default", "asked", "name"),
    [
        (BOTH + INT8, "fp32", None, "model.onnx"),
        (BOTH + INT8, "int8", None, "model.int8.onnx"),
        (BOTH + INT8, "fp32", "int8", "model.int8.onnx"),
        (BOTH + INT8, "int8", "fp32", "model.onnx"),
        (BOTH, "int8", None, "model.onnx"),
        (BOTH, None, None, "model.onnx"),
        (BOTH, {"odd": 1}, None, "model.onnx"),
    ],
)
def test_the_precision_is_the_targets_if_it_was_released(files, default, asked, name) -> None:
    assert device_file(manifest(files, default=default), precision=asked).name == name


@pytest.mark.parametrize(
    ("runtime", "precision", "files", "name"),
    [
        ("openvino", "fp32", BOTH + INT8, "openvino/model.xml"),
        ("openvino", "int8", BOTH + INT8, "openvino/model.int8.xml"),
        ("onnxruntime", "int8", BOTH + INT8, "model.int8.onnx"),
        ("openvino", "int8", BOTH, "openvino/model.xml"),
        ("ncnn", "fp32", BOTH, "model.onnx"),
        (None, "fp32", BOTH, "model.onnx"),
    ],
)
def test_the_selected_runtime_and_precision_are_deployed(runtime, precision, files, name) -> None:
    plain = manifest(files)
    latency = LatencyRecord(
        p50_ms=1, low_ms=1, high_ms=1, threads=1, source="estimated", citation="c", runtime=runtime, precision=precision
    )
    selected = plain.model_copy(update={"student": plain.student.model_copy(update={"latency": latency})})
    assert device_file(selected).name == name
    assert device_file(selected, runtime="onnxruntime", precision="fp32").name == "model.onnx"


def test_a_model_without_all_its_files_is_not_released() -> None:
    incomplete = manifest(("openvino/model.xml", "model.onnx"), runtimes=("openvino",))
    with pytest.raises(UsageError, match=r"no fp32 model for openvino\. Available: export/openvino/model.xml"):
        device_file(incomplete)
    assert shown_device_file(incomplete) is None


def test_what_is_asked_for_must_exist() -> None:
    with pytest.raises(UsageError, match="no int8 model for onnxruntime"):
        device_file(manifest(BOTH), precision="int8")
    with pytest.raises(UsageError, match=r"unknown runtime 'tflite'\. Known: onnxruntime, openvino"):
        device_file(manifest(BOTH), runtime="tflite")


def test_a_failed_run_has_no_model_for_a_device() -> None:
    assert shown_device_file(manifest(BOTH, verdict="fail")) is None
    assert shown_device_file(manifest([f"{name}.rejected" for name in BOTH], folder="export.REJECTED")) is None
    assert shown_device_file(manifest(BOTH)).name == "model.onnx"
