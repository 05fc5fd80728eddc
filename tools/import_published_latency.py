"""Make profiles of boards from published latency tables.

    python tools/import_published_latency.py --latency-dir DIR --host profiles/x86-avx512.json --out profiles

The profiles have published rows for networks with known operators: ncnn's under the runtime "ncnn", MLPerf's under
"tflite" and "armnn". tcs_edge/latency/transfer.py derives the latencies in onnxruntime and OpenVINO from them.
tools/published_tables.py states the rule for outliers. Latencies that are impossible on the board, as in a wrong unit,
are left out and named too.

x86-avx2 has no such table. Its rows are the AVX-512 rows times sqrt(2), with an interval from 1 to 2 times (half the
vector width, same clock).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from published_tables import NCNN_SOURCE, Series, read_mlperf, read_ncnn

from tcs_edge.errors import TcsEdgeError
from tcs_edge.latency.plausibility import objection
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.specs.profile import LatencyRow, Profile, load_profile, save_profile
from tcs_edge.specs.target import Precision, list_targets, load_target

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
class Proxy:
    """Series of MLPerf for the profile of a target: of this board, or of one with the same cores and clock.

    MLPerf states no thread count: `threads` is assumed.
    """

    target: str
    device: str
    version: str
    threads: int
    note: str


PROXIES = (
    Proxy("raspberrypi4", "Raspberry Pi 4, 1.8 GHz", "ArmNN 22.11 Neon", 4, "on this board at 1.8 GHz"),
    Proxy("raspberrypi4", "Raspberry Pi 4, 1.5 GHz, fan on", "TFLite 2.4.1 ruy", 4, "on this board at 1.5 GHz, fan on"),
    Proxy(
        "raspberrypi5",
        "Firefly RK3588S (4x A76 2.4 GHz as a Raspberry Pi 5, and 4x A55)",
        "TFLite 2.11 ruy",
        4,
        "not on this board: on a Firefly RK3588S, with the same four cores at the same clock, and four Cortex-A55",
    ),
)


def board_profile(board: Board, ncnn: list[Series], mlperf: list[Series]) -> Profile:
    """Return the profile of one board's published rows."""
    notes = ["Nothing was measured on this board: time the exported model there before relying on it."]
    citations = {"ncnn": f"{NCNN_SOURCE}; fastest of its runs up to the slowest, random weights; unverified by us"}
    rows: list[LatencyRow] = []
    for series in ncnn:
        if series.device == board.ncnn_device and series.threads in board.threads:
            precision: Precision = "fp16" if board.fp16_arithmetic else "fp32"
            rows += published_rows(series, series.threads, "ncnn", precision)
            notes += outlier_notes(series)
    for proxy in PROXIES:
        for series in mlperf:
            if (proxy.target, proxy.device, proxy.version) == (board.target, series.device, series.version):
                name = f"mlperf-{series.runtime}"
                citations[name] = (
                    f"{series.source}; {series.version}, {proxy.note}; median and 90th percentile; the thread count is "
                    f"not stated, {proxy.threads} assumed; unverified by us"
                )
                rows += published_rows(series, proxy.threads, name, "fp32")
                notes += outlier_notes(series)
    cpu = load_target(board.target).cpu
    notes += [f"left out: {reason}" for row in rows if (reason := objection(row, cpu))]
    rows = [row for row in rows if not objection(row, cpu)]
    # By network, as readers look for one.
    order = {name: number for number, name in enumerate(dict.fromkeys(row.model for row in rows))}
    rows.sort(key=lambda row: (row.runtime != "ncnn", row.runtime, order[row.model]))
    return Profile(target=board.target, notes=tuple(notes), citations=citations, rows=tuple(rows))


def published_rows(series: Series, threads: int, citation: str, float_precision: Precision) -> list[LatencyRow]:
    """Return a series as rows of a profile."""
    return [
        LatencyRow(
            model=network.model,
            img_size=network.img_size,
            runtime=series.runtime,
            threads=threads,
            precision="int8" if network.precision == "int8" else float_precision,
            p50_ms=row.p50_ms,
            low_ms=row.low_ms,
            high_ms=row.high_ms,
            source="published",
            citation=citation,
        )
        for network, row in series.rows.items()
    ]


def outlier_notes(series: Series) -> list[str]:
    """Return a line for every published figure that is left out."""
    where = f"{series.runtime}, {series.threads} threads" if series.threads else series.version
    figures = [
        f"{where}: {network.model} in {network.precision}: {row.outlier}"
        for network, row in series.rows.items()
        if row.outlier
    ]
    return figures + [f"{where}: left out {name}" for name in series.left_out]


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

    try:
        ncnn, mlperf = read_ncnn(args.latency_dir / "ncnn.csv"), read_mlperf(args.latency_dir / "mlperf_edge_cpu.csv")
    except TcsEdgeError as error:
        sys.exit(f"error: {error}")
    for board in BOARDS:
        if board.target in list_targets():
            profile = board_profile(board, ncnn, mlperf)
            save_profile(profile, args.out / f"{board.target}.json")
            print(f"{board.target}: {len(profile.rows)} published rows")
    save_profile(avx2_profile(load_profile(args.host).rows), args.out / "x86-avx2.json")


if __name__ == "__main__":
    main()
