from __future__ import annotations

import math

import pytest

from tcs_edge.errors import UsageError
from tcs_edge.latency.device import device_latencies
from tcs_edge.latency.precision import int8_ratio
from tcs_edge.specs.profile import Profile, load_profile
from tcs_edge.specs.target import load_target


def test_int8_is_faster_on_a_core_without_dot_product_by_the_published_rows() -> None:
    target = load_target("raspberrypi4")
    found = int8_ratio(load_profile("raspberrypi4"), target.cpu, "onnxruntime", 4)
    assert found is not None
    assert 1.2 < found.speedup < 2.4
    assert "tflite and ncnn" in found.how
    floats, eighth = (
        device_latencies(target, load_profile("raspberrypi4"), precision=precision).latency("mobilenetv2_100", 224)
        for precision in ("fp32", "int8")
    )
    assert eighth.p50_ms == pytest.approx(floats.p50_ms / found.speedup)
    assert eighth.high_ms / eighth.p50_ms > floats.high_ms / floats.p50_ms
    assert eighth.source == "estimated"


def test_fp16_rows_are_no_evidence_for_a_float32_runtime() -> None:
    """ncnn computes in fp16 on this board, so its int8 rows show nothing of int8 beside fp32."""
    target, profile = load_target("raspberrypi5"), load_profile("raspberrypi5")
    onnxruntime, openvino = (int8_ratio(profile, target.cpu, name, 4) for name in ("onnxruntime", "openvino"))
    assert "ncnn" not in onnxruntime.how
    assert "tflite" in onnxruntime.how
    assert "ncnn" in openvino.how
    assert onnxruntime.speedup > openvino.speedup


def test_other_boards_stand_for_one_without_rows() -> None:
    target = load_target("jetson-orin-nano")
    found = int8_ratio(load_profile(target.profile), target.cpu, "onnxruntime", 6)
    assert "on other boards (dot product) with tflite" in found.how


def test_without_evidence_int8_has_no_latency() -> None:
    target = load_target("x86-avx2")
    assert int8_ratio(Profile(target="x86-avx2"), target.cpu, "onnxruntime", 1) is None
    with pytest.raises(UsageError, match="nobody published int8 beside float"):
        device_latencies(target, load_profile(target.profile), precision="int8")


def test_fp16_weights_do_not_change_the_latency() -> None:
    target, profile = load_target("raspberrypi5"), load_profile("raspberrypi5")
    plain, half = (
        device_latencies(target, profile, precision=precision).latency("resnet18", 224)
        for precision in ("fp32", "fp16")
    )
    assert half.p50_ms == plain.p50_ms
    assert "fp16 stores the weights" in half.citation
    assert math.isfinite(half.high_ms)
