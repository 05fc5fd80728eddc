"""Make profiles of boards from published latency tables.

    python tools/import_published_latency.py --latency-dir DIR --host profiles/x86-avx512.json --out profiles

The profiles have ncnn's published rows for networks with known operators, under the runtime "ncnn".
tcs_edge/latency/transfer.py derives the latencies in onnxruntime from them.

x86-avx2 has no such table. Its rows are the AVX-512 rows times sqrt(2), with an interval from 1 to 2 times (half the
vector width, same clock).
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.specs.profile import LatencyRow, Profile, load_profile, save_profile
from tcs_edge.specs.target import Precision, list_targets

NCNN_SOURCE = "Tencent/ncnn benchmark/README.md @ a4d2ea1d4 (BSD-3-Clause)"
REFERENCE_PX = 224
# squeezenet runs at 227 px there, treated as 224.
NCNN_NETWORKS = {
    "squeezenet": ("squeezenet1_1", REFERENCE_PX),
    "mobilenet": ("mobilenetv1_100", REFERENCE_PX),
    "mobilenet_v2": ("mobilenetv2_100", REFERENCE_PX),
    "mobilenet_v3": ("mobilenetv3_large_100", REFERENCE_PX),
    "mnasnet": ("mnasnet_100", REFERENCE_PX),
    "efficientnet_b0": ("efficientnet_b0", REFERENCE_PX),
    "efficientnetv2_b0": ("tf_efficientnetv2_b0", REFERENCE_PX),
    "regnety_400m": ("regnety_004", REFERENCE_PX),
    "googlenet": ("googlenet", REFERENCE_PX),
    "resnet18": ("resnet18", REFERENCE_PX),
    "resnet50": ("resnet50", REFERENCE_PX),
    "vgg16": ("vgg16", REFERENCE_PX),
    "vision_transformer": ("vit_base_patch32_384", 384),
}
AVX2_FACTOR = 2.0


@dataclass(frozen=True)
class Board:
    """Device of ncnn's table and its published thread counts."""

    target: str
    ncnn_device: str
    threads: tuple[int, ...]
    fp16_arithmetic: bool


BOARDS = (
    Board("raspberrypi5", "Raspberry Pi 5 Broadcom BCM2712, Cortex-A76 (ARMv8) (2.4GHz x 4)", (1, 4), True),
    Board("raspberrypi4", "Raspberry Pi 4 Model B Broadcom BCM2711B0, Cortex-A72 (ARMv8) (1.8GHz x 4)", (1, 4), False),
    Board(
        "raspberrypi3",
        "Raspberry Pi 3 Model B+ Broadcom BCM2837B0, Cortex-A53 (ARMv8) (1.4GHz x 4)",
        (1, 4),
        False,
    ),
    Board(
        "raspberrypi-zero2w",
        "Raspberry Pi Zero 2 W Broadcom BCM2710A1, Cortex-A53 (ARMv8) (1.0GHz x 4)",
        (1, 4),
        False,
    ),
    Board("intel-n5105", "Intel Celeron N5105", (1, 4), False),
    Board("jetson-orin-nano", "NVIDIA Jetson Orin Nano", (1, 6), True),
    Board("apple-m", "MacBook Pro (13-inch, M1, 2020)", (1,), True),
    Board(
        "android-arm64",
        "Qualcomm SM8150-AC Snapdragon 855+ (Kyro485 2.96 GHz + 2.42 GHz x 3 + 1.80 GHz x 4 + Adreno 640)",
        (1, 4),
        True,
    ),
)


@dataclass(frozen=True)
class NcnnTime:
    """One published latency in ms."""

    min_ms: float
    avg_ms: float
    max_ms: float


NcnnTimes = dict[tuple[str, int, str], NcnnTime]


def read_ncnn(table: Path) -> NcnnTimes:
    """Read the CPU rows by (device, threads, network)."""
    with table.open(encoding="utf-8") as handle:
        return {
            (row["device"], int(row["num_threads"]), row["model"]): NcnnTime(
                float(row["min_ms"]), float(row["avg_ms"]), float(row["max_ms"])
            )
            for row in csv.DictReader(handle)
            if row["gpu_device"] == "-1"
        }


def published_rows(board: Board, ncnn: NcnnTimes) -> list[LatencyRow]:
    """Return ncnn's rows of known networks; its average is used as median."""
    arithmetic: Precision = "fp16" if board.fp16_arithmetic else "fp32"
    rows = []
    for network, (model, img_size) in NCNN_NETWORKS.items():
        for suffix, precision in (("", arithmetic), ("_int8", "int8")):
            for threads in board.threads:
                cell = ncnn.get((board.ncnn_device, threads, network + suffix))
                if cell:
                    rows.append(_row(model, img_size, threads, precision, cell))
    return rows


def _row(model: str, img_size: int, threads: int, precision: Precision, cell: NcnnTime) -> LatencyRow:
    return LatencyRow(
        model=model,
        img_size=img_size,
        runtime="ncnn",
        threads=threads,
        precision=precision,
        p50_ms=cell.avg_ms,
        low_ms=cell.min_ms,
        high_ms=cell.max_ms,
        source="published",
        citation="ncnn",
    )


def board_profile(board: Board, ncnn: NcnnTimes) -> Profile:
    """Return the profile of one board's published rows."""
    return Profile(
        target=board.target,
        notes=("Nothing was measured on this board: time the exported model there before relying on it.",),
        citations={"ncnn": f"{NCNN_SOURCE}; average, minimum and maximum of its runs, random weights"},
        rows=tuple(published_rows(board, ncnn)),
    )


def avx2_profile(measured: Iterable[LatencyRow]) -> Profile:
    """Transfer the AVX-512 rows to half the vector width."""
    unknown = ("p90_ms", "p99_ms", "measured_on", "runtime_version")
    changes = {"source": "estimated", "citation": "avx2", **dict.fromkeys(unknown)}
    rows = tuple(
        row.replaced(
            **changes
            | {
                "p50_ms": round(row.p50_ms * math.sqrt(AVX2_FACTOR), 4),
                "high_ms": round(row.high_ms * AVX2_FACTOR, 4),
            }
        )
        for row in measured
        if row.model in CANDIDATES
    )
    text = (
        "x86-avx512 measurement x 1.41, band 1 to 2: half the vector width at the same clock (2.5 GHz); "
        "an assumption, not a measurement"
    )
    return Profile(target="x86-avx2", citations={"avx2": text}, rows=rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-dir", type=Path, required=True)
    parser.add_argument("--host", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    ncnn = read_ncnn(args.latency_dir / "ncnn.csv")
    for board in BOARDS:
        if board.target in list_targets():
            profile = board_profile(board, ncnn)
            save_profile(profile, args.out / f"{board.target}.json")
            print(f"{board.target}: {len(profile.rows)} published rows")
    save_profile(avx2_profile(load_profile(args.host).rows), args.out / "x86-avx2.json")


if __name__ == "__main__":
    main()
