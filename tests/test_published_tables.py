"""The rule for outliers in published latency tables, on small tables."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tcs_edge.specs.profile import load_profile

TOOL = Path(__file__).resolve().parents[1] / "tools" / "published_tables.py"
NCNN_HEAD = "device,num_threads,powersave,gpu_device,model,precision,min_ms,max_ms,avg_ms\n"
MLPERF_HEAD = "round,board,runtime,model,min_ms,p50_ms,mean_ms,p90_ms,p99_ms\n"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("published_tables", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["published_tables"] = module
    spec.loader.exec_module(module)
    return module


def test_ncnns_minimum_is_used_and_a_slow_average_is_named(tables: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "ncnn.csv"
    table.write_text(
        NCNN_HEAD
        + "board,4,0,-1,mobilenet,default,9.0,73.0,33.9\n"
        + "board,4,0,-1,resnet18,default,10.0,12.0,10.5\n"
        + "board,4,0,0,resnet50,default,1.0,1.0,1.0\n"
        + "board,4,0,-1,alexnet,default,1.0,1.0,1.0\n"
    )
    (series,) = tables.read_ncnn(table)
    rows = {network.model: row for network, row in series.rows.items()}
    assert set(rows) == {"mobilenetv1_100", "resnet18"}, "GPU rows and networks without operators do not count"
    slow, usual = rows["mobilenetv1_100"], rows["resnet18"]
    assert (slow.p50_ms, slow.low_ms, slow.high_ms) == (9.0, 9.0, 11.25)
    assert "average 33.9 and maximum 73 ms left out" in slow.outlier
    assert (usual.p50_ms, usual.high_ms, usual.outlier) == (10.0, 12.0, "")


def test_mlperfs_median_is_used_and_busy_rows_are_left_out(tables: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "mlperf.csv"
    table.write_text(
        MLPERF_HEAD
        + "3.0,board,TFLite 2.11,mobilenet-v2-0.35-96-non-quantized,5,6,7,8,9\n"
        + "3.0,board,TFLite 2.11,mobilenet-v2-0.35-96-quantized,2,3,3,5,9\n"
        + "".join(f"3.0,board,TFLite 2.11,resnet50,99,{p50},110,112,130\n" for p50 in (100, 104, 102))
    )
    (series,) = tables.read_mlperf(table)
    assert {(n.model, n.img_size, n.precision): row.p50_ms for n, row in series.rows.items()} == {
        ("mobilenetv2_035", 96, "fp32"): 6.0,
        ("resnet50", 224, "fp32"): 102.0,
    }
    assert series.left_out == ("mobilenet-v2-0.35-96-quantized (90th percentile 2.5 x the minimum)",)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet-v1-0.25-128-quantized", ("mobilenetv1_025", 128, "int8")),
        ("mobilenet-v3-large_224_0.75_float", ("tf_mobilenetv3_large_075", 224, "fp32")),
        ("mobilenet-v3-small-minimalistic_224_1.0_uint8", ("tf_mobilenetv3_small_minimal_100", 224, "int8")),
        ("efficientnet-lite0-non-quantized", ("tf_efficientnet_lite0", 224, "fp32")),
        ("efficientnet-lite4-quantized", ("efficientnet_lite4", 300, "int8")),
        ("bert-99", None),
    ],
)
def test_names_of_mlperf_are_translated(tables: ModuleType, name: str, expected: tuple[str, int, str] | None) -> None:
    assert tables.mlperf_network(name) == expected


def test_the_shipped_profile_names_its_outlier() -> None:
    profile = load_profile("raspberrypi5")
    row = next(r for r in profile.rows if r.key == ("mobilenetv1_100", 224, 1, "ncnn", 4, "fp16"))
    assert row.p50_ms == 9.0
    assert any("mobilenetv1_100" in note and "33.88" in note for note in profile.notes)
    assert all("unverified by us" in text for text in profile.citations.values())


@pytest.mark.parametrize(
    ("device", "arm", "dot_product", "float16"),
    [
        ("Raspberry Pi 5 Broadcom BCM2712 Overclock to 2.9Ghz", True, True, True),
        ("Raspberry Pi 4 Model B Broadcom BCM2711B0, Cortex-A72 (ARMv8) (1.8GHz x 4)", True, False, False),
        ("Banana Pi M2 Zero 2 AllWinner H2+, Cortex-A7 (ARMv7-A) (1.2GHz x 4)", True, False, False),
        ("Khadas VIM3, Amlogic A311D (Cortex-A73 2.2GHz x 4 + Cortex-A53 1.8GHz x 2)", True, False, False),
        ("Qualcomm SM8150-AC Snapdragon 855+ (Kyro485 2.96 GHz)", True, True, True),
        ("Qualcomm MSM8998 Snapdragon 835 (Kyro 2.45GHz x 4)", True, False, False),
        ("NVIDIA Jetson AGX Xavier (Carmel 2.2 GHz x 8)", True, False, True),
        ("MacBook Pro (13-inch, M1, 2020)", True, True, True),
        ("MacBook Pro (15-inch, 2019) - 2.6GHz six cores Intel Core i7", False, False, False),
        ("Loongson 3A5000 (LA464 2.5GHz * 4)", False, False, False),
    ],
)
def test_the_name_of_a_device_shows_its_arithmetic(tables, device, arm, dot_product, float16):
    found = tables.is_arm(device), tables.has_dot_product(device), tables.has_float16(device)
    assert found == (arm, dot_product, float16)
