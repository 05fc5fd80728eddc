"""Tests of the latency measurement of all exported files and PyTorch."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from tcs_edge.data import Preprocess
from tcs_edge.export.fp16 import export_onnx_fp16
from tcs_edge.runtimes.openvino.export import export_openvino
from tcs_edge.stages import time_exports


@pytest.fixture(scope="module")
def exports(onnx_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    (folder / "model.onnx").write_bytes(onnx_path.read_bytes())
    export_openvino(onnx_path, folder / "openvino" / "model.xml")
    export_onnx_fp16(onnx_path, folder / "model.fp16.onnx")
    export_openvino(onnx_path, folder / "openvino" / "model.fp16.xml", precision="fp16")
    return folder


def measured(resolved, model, exports, **options):
    config = resolved(precision=("fp16",), **options)
    return time_exports.measure_latency(model, exports, Preprocess(32), config)[0]


def test_percentiles_follow_from_the_recorded_calls(resolved, model, exports, monkeypatch):
    monkeypatch.setattr(time_exports, "BUDGET_SECONDS", 0.1)
    config = resolved()
    here, calls = time_exports.measure_latency(model, exports, Preprocess(32), config)
    assert set(calls.calls_ms) == set(here.runtimes)
    for name, sample in here.runtimes.items():
        recorded = calls.calls_ms[name]
        assert len(recorded) == sample.runs
        expected = np.percentile(recorded, [50, 90, 99])
        np.testing.assert_allclose([sample.p50_ms, sample.p90_ms, sample.p99_ms], expected, atol=1e-4)


def test_every_file_is_timed_beside_pytorch(resolved, model, exports, monkeypatch):
    monkeypatch.setattr(time_exports, "BUDGET_SECONDS", 0.1)
    here = measured(resolved, model, exports)
    assert {"pytorch", "onnxruntime", "onnxruntime-fp16", "openvino", "openvino-fp16"} <= set(here.runtimes)
    assert here.threads == 1
    for sample in here.runtimes.values():
        assert 0 < sample.p50_ms <= sample.p90_ms <= sample.p99_ms
        assert sample.runs >= time_exports.FEWEST
    assert here.remarks == ()


def test_failing_compiler_gives_a_remark(resolved, model, exports, monkeypatch):
    def broken(module):
        def call(images):
            raise RuntimeError("no C++\ncompiler")

        module = torch.nn.Identity()
        module.forward = call
        return module

    monkeypatch.setattr(time_exports, "BUDGET_SECONDS", 0.1)
    monkeypatch.setattr(torch, "compile", broken)
    here = measured(resolved, model, exports, compiled_latency=True)
    assert "pytorch-compiled" not in here.runtimes
    assert here.remarks == ("pytorch-compiled was not timed: no C++ compiler",)


def test_compiled_model_is_timed(resolved, model, exports, monkeypatch):
    monkeypatch.setattr(time_exports, "BUDGET_SECONDS", 0.1)
    monkeypatch.setattr(torch, "compile", lambda module: module)
    assert "pytorch-compiled" in measured(resolved, model, exports, compiled_latency=True).runtimes


def test_file_that_does_not_load_gives_a_remark_and_others_are_timed(resolved, model, exports, tmp_path, monkeypatch):
    monkeypatch.setattr(time_exports, "BUDGET_SECONDS", 0.1)
    broken = shutil.copytree(exports, tmp_path / "exports")
    (broken / "openvino" / "model.bin").write_bytes(b"")
    here = measured(resolved, model, broken)
    assert "onnxruntime" in here.runtimes
    assert "openvino" not in here.runtimes
    assert here.remarks[0].startswith("openvino was not timed: ")
