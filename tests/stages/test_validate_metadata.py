"""Tests of the checks of exported metadata against the trained model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from tcs_edge.export.preprocess import write_labels, write_preprocess
from tcs_edge.selftest import graphs
from tcs_edge.stages.validate_metadata import metadata_checks


@pytest.fixture
def exports(onnx_path, xml_path, labels, preprocess, tmp_path) -> Path:
    """Export folder as `compress` writes it."""
    (tmp_path / "openvino").mkdir()
    shutil.copy(onnx_path, tmp_path / "model.onnx")
    for path in (xml_path, xml_path.with_suffix(".bin")):
        shutil.copy(path, tmp_path / "openvino" / path.name)
    write_labels(tmp_path / "labels.txt", labels)
    write_preprocess(tmp_path / "preprocess.json", preprocess)
    return tmp_path


def failed(exports: Path, labels, preprocess, max_opset: int | None = 21) -> list[str]:
    checks = metadata_checks(exports, labels, preprocess, max_opset)
    return [check.name for check in checks if not check.passed]


def test_good_files_pass(exports, labels, preprocess):
    assert failed(exports, labels, preprocess) == []


def test_opset_above_the_limit_of_the_target_fails(exports, labels, preprocess):
    assert failed(exports, labels, preprocess, max_opset=17) == ["onnx: opset"]
    assert failed(exports, labels, preprocess, max_opset=None) == []


def test_other_preprocessing_fails_for_every_file(exports, labels, preprocess):
    other = preprocess | {"mean": [0.5, 0.5, 0.5]}
    expected = ["onnx: preprocessing", "openvino: preprocessing", "preprocess.json"]
    assert failed(exports, labels, other) == expected


@pytest.mark.parametrize(
    ("name", "damage", "checks"),
    [
        ("labels.txt", lambda path: path.write_text("a\nb\n"), ["labels.txt"]),
        ("labels.txt", lambda path: path.unlink(), ["labels.txt"]),
        ("preprocess.json", lambda path: path.write_text("{"), ["preprocess.json"]),
        ("model.onnx", graphs.use_stale_weights, ["onnx: one file"]),
        (
            "openvino/model.xml",
            lambda path: path.write_text("<net/>"),
            ["openvino: precision", "openvino: preprocessing"],
        ),
    ],
)
def test_damaged_file_is_a_failed_check(exports, labels, preprocess, name, damage, checks):
    damage(exports / name)
    assert failed(exports, labels, preprocess) == checks


def test_file_with_another_precision_than_its_name_fails(exports, labels, preprocess):
    shutil.copy(exports / "model.onnx", exports / "model.int8.onnx")
    checks = metadata_checks(exports, labels, preprocess, 21, ("fp32", "int8"))
    assert [check.name for check in checks if not check.passed] == ["onnx-int8: precision"]


def test_missing_float16_file_fails(exports, labels, preprocess):
    checks = metadata_checks(exports, labels, preprocess, 21, ("fp32", "fp16"))
    assert {"onnx-fp16: opset", "openvino-fp16: precision"} <= {check.name for check in checks if not check.passed}


def test_metadata_that_is_not_json_fails(exports, labels, preprocess):
    model = onnx.load(exports / "model.onnx")
    next(pair for pair in model.metadata_props if pair.key == "preprocess").value = "{"
    onnx.save(model, exports / "model.onnx")
    assert failed(exports, labels, preprocess) == ["onnx: preprocessing"]


@pytest.mark.slow
def test_ir_with_truncated_weights_fails_its_run(cli, own_run):
    """The recorded hash matches, so only loading the file detects the damage."""
    from tcs_edge.utils.files import sha256_file

    weights = own_run / "export" / "openvino" / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-64])
    manifest = json.loads((own_run / "manifest.json").read_text())
    for record in manifest["files"]:
        if record["path"] == "export/openvino/model.bin":
            record |= {"bytes": weights.stat().st_size, "sha256": sha256_file(weights)}
    (own_run / "manifest.json").write_text(json.dumps(manifest))
    result = cli("validate", own_run, "--revoke")
    assert result.exit_code == 1
    assert "FAILED openvino: runs on every image" in result.stdout
    assert (own_run / "export.REJECTED").is_dir()
