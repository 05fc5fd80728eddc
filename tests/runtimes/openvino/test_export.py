"""Exported OpenVINO IR: equal logits, metadata, two files, and no telemetry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
import torch

from tcs_edge.errors import DataError, MissingError, RequirementMissed
from tcs_edge.runtimes.metadata import KEYS, read_onnx_metadata
from tcs_edge.runtimes.openvino.export import export_openvino
from tcs_edge.runtimes.openvino.library import core


def test_the_export_computes_the_logits_of_the_model(xml_path, model):
    images = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    compiled = core().compile_model(xml_path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(compiled([images])[0], expected, atol=1e-5)


def test_names_and_shapes_equal_the_onnx_file(xml_path):
    model = core().read_model(xml_path)
    assert model.input(0).names == {"image"}
    assert model.output(0).names == {"logits"}
    assert list(model.input(0).shape) == [1, 3, 32, 32]


def test_weights_stay_float32(xml_path):
    nodes = core().read_model(xml_path).get_ops()
    kinds = {node.get_element_type().to_string() for node in nodes if node.get_type_name() == "Constant"}
    assert "f32" in kinds
    assert not kinds & {"f16", "bf16"}


def test_metadata_equals_the_onnx_file(xml_path, onnx_path, labels):
    model = core().read_model(xml_path)
    stored = {key: str(model.get_rt_info(["tcs_edge", key]).value) for key in KEYS}
    assert stored == read_onnx_metadata(onnx_path)
    assert tuple(json.loads(stored["labels"])) == labels


def test_the_export_is_two_files(onnx_path, tmp_path):
    export_openvino(onnx_path, tmp_path / "m.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bin", "m.xml"]


def _no_weights(model, path, compress_to_fp16):
    Path(path).write_text("<net/>", encoding="utf-8")


def _half_weights(model, path, compress_to_fp16, save=ov.save_model):
    save(model, path, compress_to_fp16=compress_to_fp16)
    weights = Path(path).with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-100])


@pytest.mark.parametrize("save", [_no_weights, _half_weights])
@pytest.mark.parametrize("older", [False, True])
def test_a_failed_save_keeps_the_earlier_files(onnx_path, tmp_path, monkeypatch, save, older):
    if older:
        export_openvino(onnx_path, tmp_path / "m.xml")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(ov, "save_model", save)
    with pytest.raises(RequirementMissed):
        export_openvino(onnx_path, tmp_path / "m.xml")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupted_rename_leaves_no_single_file(onnx_path, tmp_path, monkeypatch):
    rename = Path.replace

    def interrupt(self, target):
        if Path(target).suffix == ".xml":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_openvino(onnx_path, tmp_path / "m.xml")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_or_foreign_onnx_file_is_a_data_error(onnx_path, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(onnx_path.read_bytes()[:3000])
    proto = onnx.load(onnx_path)
    proto.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(proto, tmp_path / "odd.onnx")
    for name in ("cut.onnx", "odd.onnx", "missing.onnx"):
        with pytest.raises(DataError, match=name):
            export_openvino(tmp_path / name, tmp_path / "m.xml")
    assert not (tmp_path / "m.xml").exists()


WATCH_SOCKETS = """
import socket, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event.startswith("socket.") else None)
"""
EXPORT = """
from pathlib import Path
from tcs_edge.runtimes.openvino.export import export_openvino
from tcs_edge.runtimes.openvino import OpenVinoRunner
export_openvino(Path(sys.argv[1]), Path(sys.argv[2]))
OpenVinoRunner(Path(sys.argv[2]))
import openvino.tools.ovc.telemetry_utils as ovc, time
ovc.init_ovc_telemetry(); ovc.send_framework_info("onnx")
time.sleep(0.3)
calls = {event for event in opened if event not in ("socket.__new__",)}
assert not calls, calls
assert "openvino_telemetry.main" not in sys.modules
assert "openvino_telemetry.utils.sender" not in sys.modules
"""
WITHOUT_US = """
import openvino.tools.ovc.telemetry_utils as ovc
ovc.init_ovc_telemetry()
"""


REPORTING = ("CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY")  # each changes the telemetry


def run_fresh(code: str, home: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    home.mkdir()
    environment = {key: os.environ[key] for key in os.environ if key not in REPORTING}
    root = str(Path(__file__).parents[3])
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**environment, "HOME": str(home), "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_export_sends_no_telemetry(onnx_path, tmp_path):
    home = tmp_path / "home"
    done = run_fresh(WATCH_SOCKETS + EXPORT, home, onnx_path, tmp_path / "m.xml")
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*openvino*")) == []
    assert not (home / "intel").exists()


def test_the_libraries_send_telemetry_by_default(tmp_path):
    # Shows that the test above can fail: by default the libraries send telemetry.
    home = tmp_path / "home"
    assert run_fresh(WITHOUT_US, home).returncode == 0
    assert (home / "intel" / "openvino_ga_cid").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
def test_a_full_disk_is_an_error_without_partial_files(onnx_path, tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(MissingError, match="openvino cannot write"):
            export_openvino(onnx_path, tmp_path / "out" / "m.xml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "out").iterdir()) == []
