"""The rule for outliers in published latency tables, on small tables."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tcs_edge.errors import DataError
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


def test_a_lone_minimum_is_left_out_and_named(tables: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "ncnn.csv"
    table.write_text(NCNN_HEAD + "board,4,0,-1,mobilenet,default,0.9,9.6,9.3\n")
    ((row,),) = (series.rows.values() for series in tables.read_ncnn(table))
    assert (row.p50_ms, row.low_ms, row.high_ms) == (9.3, 9.3 / 1.25, 9.6)
    assert "minimum 0.9 ms left out" in row.outlier


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("9.0,,", (9.0, 9.0, 11.25)),
        (",9.5,9.0", (9.0, 7.2, 9.5)),
        (",,9.0", (9.0, 7.2, 11.25)),
        ("9.0,,9.5", (9.0, 9.0, 9.5)),
    ],
)
def test_a_row_with_the_minimum_or_the_average_alone_is_used(tables, tmp_path, cells, expected) -> None:
    table = tmp_path / "ncnn.csv"
    table.write_text(NCNN_HEAD + f"board,4,0,-1,mobilenet,default,{cells}\n")
    ((row,),) = (series.rows.values() for series in tables.read_ncnn(table))
    assert (row.p50_ms, row.low_ms, row.high_ms) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("0,9,9", "not a positive number"),
        ("-9,9,9", "not a positive number"),
        ("nan,9,9", "not a positive number"),
        ("9 ms,9,9", "not a positive number"),
        (",9,", "missing"),
        ("9,10,11", "wrong order: 9, 11, 10"),
        ("10,12,9", "wrong order: 10, 9, 12"),
    ],
)
def test_a_row_with_impossible_latencies_is_left_out_and_named(tables, tmp_path, cells, reason) -> None:
    table = tmp_path / "ncnn.csv"
    good = "board,4,0,-1,resnet18,default,10.0,12.0,10.5\n"
    table.write_text(NCNN_HEAD + f"board,4,0,-1,mobilenet,default,{cells}\n" + good)
    (series,) = tables.read_ncnn(table)
    assert [network.model for network in series.rows] == ["resnet18"]
    assert len(series.left_out) == 1
    assert series.left_out[0].startswith("mobilenet (")
    assert reason in series.left_out[0]


def test_impossible_latencies_of_mlperf_are_left_out_and_named(tables: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "mlperf.csv"
    rows = ("99,100,110,112,130", "0,100,110,112,130", "99,,110,112,130", "99,98,110,112,130")
    table.write_text(MLPERF_HEAD + "".join(f"3.1,board,TFLite 2.11,resnet50,{row}\n" for row in rows))
    (series,) = tables.read_mlperf(table)
    assert [row.p50_ms for row in series.rows.values()] == [100.0]
    assert len(series.left_out) == 3
    assert "v3.1" in series.source


def test_other_runtimes_and_networks_of_mlperf_are_skipped(tables: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "mlperf.csv"
    names = ("efficientnet-lite9-quantized", "mobilenet-v3-huge_224_1.0_float", "mobilenet-v9-1.0-224-quantized")
    rows = [f"3.0,board,TFLite 2.11,{name},9,10,11,12,13\n" for name in names]
    table.write_text(MLPERF_HEAD + "3.0,board,OpenVINO 2023,resnet50,9,10,11,12,13\n" + "".join(rows))
    assert tables.read_mlperf(table) == []


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_may_have_another_order_and_separator(tables: ModuleType, tmp_path: Path, separator: str) -> None:
    table = tmp_path / "ncnn.csv"
    text = "avg_ms, min_ms,max_ms,model,gpu_device,device,num_threads\r\n10.5,10.0,12.0,resnet18,-1,board,4\r\n"
    text = text.replace(",", separator)
    if separator != ",":
        text = text.replace(".", ",")
    table.write_bytes(("\ufeff" + text).encode())
    ((row,),) = (series.rows.values() for series in tables.read_ncnn(table))
    assert (row.p50_ms, row.high_ms) == (10.0, 12.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column device"),
        (NCNN_HEAD.replace("min_ms", "min_us"), "no column min_ms"),
        (NCNN_HEAD + "board,4,0,-1,mobilenet,default,9.0,9\n", "row 2 has 8 cells, not 9"),
        (NCNN_HEAD + "board,all,0,-1,mobilenet,default,9.0,9,9\n", "num_threads is 'all'"),
    ],
)
def test_a_damaged_table_is_one_line(tables: ModuleType, tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "ncnn.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        tables.read_ncnn(table)


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
