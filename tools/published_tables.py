"""Read published latency tables of boards, and leave out rows that are outliers by a stated rule.

ncnn publishes the minimum, average and maximum of a few runs. The minimum is used, because other work on a device can
only slow a run down. Where the average is above 1.25 times the minimum, a slow run is in it: the row's average and
maximum are left out. Where it is above twice the minimum, and the maximum is within 1.25 times the average, the minimum
is the outlier: the average is used. A row without a minimum has the average too. MLPerf publishes the median and
percentiles of many runs. The median is used. Where the 90th percentile is above twice the minimum, the device was busy
or throttled, and the row is left out. Of several runs of one network, the middle one is used. Rows with latencies that
are not positive, missing or in the wrong order are left out. Every row with a left-out figure is named.

Tables are in UTF-8, with or without a byte order mark, separated by commas, semicolons or tabs.
"""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tcs_edge.errors import DataError
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
SLOW_AVERAGE, SLOW_TAIL, LONE_MINIMUM = 1.25, 2.0, 2.0
NCNN_COLUMNS = ("device", "num_threads", "gpu_device", "model", "min_ms", "max_ms", "avg_ms")
MLPERF_COLUMNS = ("round", "board", "runtime", "model", "min_ms", "p50_ms", "p90_ms")
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
    left_out: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in _rows(table, NCNN_COLUMNS):
        precision: Precision = "int8" if row["model"].endswith("_int8") else "fp32"
        named = NCNN_NETWORKS.get(row["model"].removesuffix("_int8"))
        if named is None or row["gpu_device"] != "-1":
            continue
        network, key = Network(*named, precision), (row["device"], _threads(row["num_threads"], table))
        latencies = [_ms(row[name]) for name in ("min_ms", "avg_ms", "max_ms")]
        if reason := _objection(latencies, complete=latencies[0] is not None or latencies[1] is not None):
            left_out[key].append(f"{row['model']} ({reason})")
            continue
        read = _ncnn_row(*latencies)
        if network not in found[key] or read.p50_ms < found[key][network].p50_ms:
            found[key][network] = read
    return [
        Series(device, "ncnn", "", threads, NCNN_SOURCE, found[device, threads], tuple(left_out[device, threads]))
        for device, threads in dict.fromkeys((*found, *left_out))
    ]


def _ncnn_row(fastest: float | None, average: float | None, slowest: float | None) -> Published:
    """Return a latency from figures in ascending order; the minimum or the average is known."""
    if fastest is None:
        assert average is not None
        return Published(average, average / SLOW_AVERAGE, slowest or SLOW_AVERAGE * average, "no minimum, average used")
    slow = SLOW_AVERAGE * fastest
    if average is None:
        return Published(fastest, fastest, slow, "no average")
    slowest = average if slowest is None else slowest
    if average <= slow:
        return Published(fastest, fastest, slowest)
    if average > LONE_MINIMUM * fastest and slowest <= SLOW_AVERAGE * average:
        what = f"minimum {fastest:g} ms left out, the average {average:g} is {average / fastest:.2g} x as much"
        return Published(average, average / SLOW_AVERAGE, slowest, what)
    what = f"average {average:g} and maximum {slowest:g} ms left out, {average / fastest:.2g} x the minimum {fastest:g}"
    return Published(fastest, fastest, slow, what)


def read_mlperf(table: Path) -> list[Series]:
    """Read MLPerf's rows of boards, one series per board, runtime and round."""
    found: dict[tuple[str, str, str], dict[Network, list[Published]]] = defaultdict(lambda: defaultdict(list))
    left_out: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in _rows(table, MLPERF_COLUMNS):
        key, network = (row["board"], row["runtime"], row["round"]), mlperf_network(row["model"])
        if network is None or _mlperf_runtime(row["runtime"]) is None:
            continue
        latencies = [_ms(row[name]) for name in ("min_ms", "p50_ms", "p90_ms")]
        if reason := _objection(latencies, complete=None not in latencies):
            left_out[key].append(f"{row['model']} ({reason})")
            continue
        low, p50, high = (ms for ms in latencies if ms is not None)
        if high > SLOW_TAIL * low:
            left_out[key].append(f"{row['model']} (90th percentile {high / low:.1f} x the minimum)")
        else:
            found[key][network].append(Published(p50, low, high))
    return [_mlperf_series(key, rows, left_out[key]) for key, rows in found.items()]


def _mlperf_series(key: tuple[str, str, str], rows: dict[Network, list[Published]], left_out: list[str]) -> Series:
    board, runtime, number = key
    middle = {network: sorted(runs, key=lambda run: run.p50_ms)[len(runs) // 2] for network, runs in rows.items()}
    name = _mlperf_runtime(runtime)
    assert name is not None  # rows of other runtimes were skipped
    source = MLPERF_SOURCES.get(number, f"MLPerf Inference v{number}")
    return Series(board, name, runtime, None, source, middle, tuple(left_out))


def _mlperf_runtime(text: str) -> ProfileRuntime | None:
    return MLPERF_RUNTIMES.get(text.partition(" ")[0])


def mlperf_network(name: str) -> Network | None:
    """Translate MLPerf's name of a network; None for a network without operator tables."""
    floats = "non-quantized" in name or name.endswith("_float") or name == "resnet50"
    precision: Precision = "fp32" if floats else "int8"
    if found := re.match(r"mobilenet-v([12])-([\d.]+)-(\d+)-", name):
        return Network(f"mobilenetv{found[1]}_{round(100 * float(found[2])):03d}", int(found[3]), precision)
    if found := re.match(r"mobilenet-v3-(\w+(?:-minimalistic)?)_224_([\d.]+)_", name):
        model = MOBILENET_V3.get(f"{found[1]}_{found[2]}")
        return Network(model, PX, precision) if model else None
    if found := re.match(r"efficientnet-lite([0-4])-", name):
        model = "tf_efficientnet_lite0" if found[1] == "0" else f"efficientnet_lite{found[1]}"
        return Network(model, LITE_PX[int(found[1])], precision)
    return Network("resnet50", PX, "fp32") if name == "resnet50" else None


def _ms(text: str) -> float | None:
    """Return a latency; None for an empty cell, NaN for text that is not a number."""
    try:
        return float(text) if text else None
    except ValueError:
        return math.nan


def _threads(text: str, table: Path) -> int:
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{table}: num_threads is {text!r}, not a number. Repair the table.") from None


def _objection(latencies: Sequence[float | None], complete: bool) -> str:
    """Return the reason against latencies that ascend if they are right; empty if there is none."""
    known = [ms for ms in latencies if ms is not None]
    if not complete:
        return "a latency is missing"
    if not all(0 < ms < math.inf for ms in known):
        return "a latency is not a positive number"
    return "" if known == sorted(known) else f"latencies in the wrong order: {', '.join(f'{ms:g}' for ms in known)} ms"


def _rows(table: Path, columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """Yield the rows of a table, with stripped cells. Latencies may have a decimal comma if no comma separates cells.

    Raises:
        DataError: the table lacks a column, or a row is cut off.
    """
    with table.open(encoding="utf-8-sig", newline="") as handle:
        head = handle.readline()
        handle.seek(0)
        separator = max(",;\t", key=head.count)
        rows = csv.reader(handle, delimiter=separator)
        names = [name.strip() for name in next(rows, [])]
        if missing := [name for name in columns if name not in names]:
            raise DataError(f"{table} has no column {', '.join(missing)}. Its columns: {', '.join(names)[:200]}.")
        for number, cells in enumerate(rows, start=2):
            if cells and len(cells) != len(names):
                raise DataError(f"{table}: row {number} has {len(cells)} cells, not {len(names)}. Repair the table.")
            if cells:
                row = dict(zip(names, map(str.strip, cells), strict=True))
                if separator != ",":
                    row |= {name: text.replace(",", ".") for name, text in row.items() if name.endswith("_ms")}
                yield row
