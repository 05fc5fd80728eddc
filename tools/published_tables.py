"""Read published latency tables of boards, and leave out rows that are outliers by a stated rule.

ncnn publishes the minimum, average and maximum of a few runs. The minimum is used, because other work on a device can
only slow a run down. Where the average is above 1.25 times the minimum, a slow run is in it: the row's average and
maximum are left out. MLPerf publishes the median and percentiles of many runs. The median is used. Where the 90th
percentile is above twice the minimum, the device was busy or throttled, and the row is left out. Of several runs of one
network, the middle one is used. Every row with a left-out figure is named.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.profile import ProfileRuntime

NCNN_SOURCE = "Tencent/ncnn benchmark/README.md @ a4d2ea1d4 (BSD-3-Clause)"
MLPERF_SOURCES = {
    "1.0": "MLPerf Inference v1.0, mlcommons/inference_results_v1.0 @ f7759baf (Apache-2.0)",
    "3.0": "MLPerf Inference v3.0, mlcommons/inference_results_v3.0 @ 1948f9b5 (Apache-2.0)",
}
PX = 224
# squeezenet runs at 227 px there, treated as 224.
NCNN_NETWORKS = {
    "squeezenet": ("squeezenet1_1", PX),
    "mobilenet": ("mobilenetv1_100", PX),
    "mobilenet_v2": ("mobilenetv2_100", PX),
    "mobilenet_v3": ("mobilenetv3_large_100", PX),
    "mnasnet": ("mnasnet_100", PX),
    "efficientnet_b0": ("efficientnet_b0", PX),
    "efficientnetv2_b0": ("tf_efficientnetv2_b0", PX),
    "regnety_400m": ("regnety_004", PX),
    "googlenet": ("googlenet", PX),
    "resnet18": ("resnet18", PX),
    "resnet50": ("resnet50", PX),
    "vgg16": ("vgg16", PX),
    "vision_transformer": ("vit_base_patch32_384", 384),
}
MOBILENET_V3 = {
    "large_1.0": "mobilenetv3_large_100",
    "large_0.75": "tf_mobilenetv3_large_075",
    "small_1.0": "mobilenetv3_small_100",
    "small_0.75": "mobilenetv3_small_075",
    "large-minimalistic_1.0": "tf_mobilenetv3_large_minimal_100",
    "small-minimalistic_1.0": "tf_mobilenetv3_small_minimal_100",
}
LITE_PX = (224, 240, 260, 280, 300)
MLPERF_RUNTIMES: dict[str, ProfileRuntime] = {"TFLite": "tflite", "ArmNN": "armnn", "ONNX": "onnxruntime"}
SLOW_AVERAGE, SLOW_TAIL = 1.25, 2.0
# Parts of the names of devices: Arm processors; cores with the int8 dot product (Armv8.4, or Armv8.2 with it), all of
# which have float16 arithmetic; cores with float16 arithmetic alone. ncnn's table spells Kryo "Kyro".
ARM = re.compile(r"Cortex|K(?:ry|yr)o|Kirin|Apple M|inch, M\d|Raspberry|Jetson|RK3|FTC|Oryon|K(?i:unpeng)|D64ps")
DOT_PRODUCT = re.compile(
    r"\bA(?:55|76|77|78|710|715|720)|Cortex-X|Apple M|inch, M\d|Orin|K(?i:unpeng) 920|Oryon|D64ps|Raspberry Pi 5"
    r"|Snapdragon (?:76\d|8[5-9]\d|8 Gen)"
)
FLOAT16_ALONE = re.compile(r"\bA75|Xavier")


class Network(NamedTuple):
    """Network by its name in the operator tables, input size in pixels and precision (fp32 stands for float)."""

    model: str
    img_size: int
    precision: Precision


@dataclass(frozen=True)
class Published:
    """One published latency in ms; `outlier` describes figures that were left out, and is empty otherwise."""

    p50_ms: float
    low_ms: float
    high_ms: float
    outlier: str = ""


@dataclass(frozen=True)
class Series:
    """Latencies of one device in one runtime with one thread count; `left_out` names the rows without a latency.

    `threads` is None if the publisher does not state it.
    """

    device: str
    runtime: ProfileRuntime
    version: str
    threads: int | None
    source: str
    rows: dict[Network, Published]
    left_out: tuple[str, ...] = ()

    def of(self, *precisions: Precision) -> dict[Network, Published]:
        """Return the rows of these precisions."""
        return {network: row for network, row in self.rows.items() if network.precision in precisions}


def is_arm(device: str) -> bool:
    """Return True for a device with an Arm processor, by its name in a published table."""
    return bool(ARM.search(device))


def has_dot_product(device: str) -> bool:
    """Return True for an Arm processor with the int8 dot product."""
    return is_arm(device) and bool(DOT_PRODUCT.search(device))


def has_float16(device: str) -> bool:
    """Return True for an Arm processor with float16 arithmetic, which ncnn uses by default."""
    return has_dot_product(device) or (is_arm(device) and bool(FLOAT16_ALONE.search(device)))


def read_ncnn(table: Path) -> list[Series]:
    """Read the CPU rows of ncnn's table, one series per device and thread count.

    Of several power settings with one thread count, the faster row of a network is used.
    """
    found: dict[tuple[str, int], dict[Network, Published]] = defaultdict(dict)
    for row in _rows(table):
        precision: Precision = "int8" if row["model"].endswith("_int8") else "fp32"
        named = NCNN_NETWORKS.get(row["model"].removesuffix("_int8"))
        if named is None or row["gpu_device"] != "-1":
            continue
        network, rows = Network(*named, precision), found[row["device"], int(row["num_threads"])]
        read = _ncnn_row(float(row["min_ms"]), float(row["avg_ms"]), float(row["max_ms"]))
        if network not in rows or read.p50_ms < rows[network].p50_ms:
            rows[network] = read
    return [Series(device, "ncnn", "", threads, NCNN_SOURCE, rows) for (device, threads), rows in found.items()]


def _ncnn_row(fastest: float, average: float, slowest: float) -> Published:
    if average <= SLOW_AVERAGE * fastest:
        return Published(fastest, fastest, slowest)
    what = f"average {average:g} and maximum {slowest:g} ms left out, {average / fastest:.2g} x the minimum {fastest:g}"
    return Published(fastest, fastest, SLOW_AVERAGE * fastest, what)


def read_mlperf(table: Path) -> list[Series]:
    """Read MLPerf's rows of boards, one series per board, runtime and round."""
    found: dict[tuple[str, str, str], dict[Network, list[Published]]] = defaultdict(lambda: defaultdict(list))
    left_out: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in _rows(table):
        key, network = (row["board"], row["runtime"], row["round"]), mlperf_network(row["model"])
        if network is None:
            continue
        low, p50, high = (float(row[name]) for name in ("min_ms", "p50_ms", "p90_ms"))
        if high > SLOW_TAIL * low:
            left_out[key].append(f"{row['model']} (90th percentile {high / low:.1f} x the minimum)")
        else:
            found[key][network].append(Published(p50, low, high))
    return [_mlperf_series(key, rows, left_out[key]) for key, rows in found.items()]


def _mlperf_series(key: tuple[str, str, str], rows: dict[Network, list[Published]], left_out: list[str]) -> Series:
    board, runtime, number = key
    middle = {network: sorted(runs, key=lambda run: run.p50_ms)[len(runs) // 2] for network, runs in rows.items()}
    name = MLPERF_RUNTIMES[runtime.split()[0]]
    return Series(board, name, runtime, None, MLPERF_SOURCES[number], middle, tuple(left_out))


def mlperf_network(name: str) -> Network | None:
    """Translate MLPerf's name of a network; None for a network without operator tables."""
    floats = "non-quantized" in name or name.endswith("_float") or name == "resnet50"
    precision: Precision = "fp32" if floats else "int8"
    if found := re.match(r"mobilenet-v([12])-([\d.]+)-(\d+)-", name):
        return Network(f"mobilenetv{found[1]}_{round(100 * float(found[2])):03d}", int(found[3]), precision)
    if found := re.match(r"mobilenet-v3-(\w+(?:-minimalistic)?)_224_([\d.]+)_", name):
        return Network(MOBILENET_V3[f"{found[1]}_{found[2]}"], PX, precision)
    if found := re.match(r"efficientnet-lite(\d)-", name):
        model = "tf_efficientnet_lite0" if found[1] == "0" else f"efficientnet_lite{found[1]}"
        return Network(model, LITE_PX[int(found[1])], precision)
    return Network("resnet50", PX, "fp32") if name == "resnet50" else None


def _rows(table: Path) -> Iterator[dict[str, str]]:
    with table.open(encoding="utf-8") as handle:
        yield from csv.DictReader(handle)
