r"""Make the profiles of boards we cannot measure from published tables and our own measurement.

    python benchmarks/import_published_latency.py --latency-dir DIR \
        --host profiles/x86-avx512.json --out profiles

published rows: what ncnn publishes for networks equal to a candidate, under the runtime "ncnn".
estimated rows: onnxruntime, in four steps, each with its share of the band.

1. Transfer. ratio = board (ncnn, 224 px) / host (onnxruntime, 224 px) over the networks both have; its
   geometric mean carries every other candidate over. Band: 90 % prediction interval from the leave-one-out
   residuals in log space. A network that ncnn publishes takes its own ratio and no such band.
2. Runtime. onnxruntime / ncnn = 168.1 / 88.0 for yolo11n on a Raspberry Pi 5, the only published pair. It
   includes ncnn's fp16 arithmetic, so boards without that get its square root. Band: a factor of
   sqrt(168.1 / 88.0) either way, i.e. "no difference" to the full one.
3. Size. Other sizes follow the host's own curve. Upwards the band grows by 1.25 per halving of the side;
   downwards it reaches to what proportionality to the area would give.
4. Kind. Transformers: ncnn publishes one (ViT-B/32 at 384 px), slower by some factor than the convolutional
   nets' ratio predicts. How much of this is ncnn's own, nobody published, so the estimate takes the square
   root of the factor and the band reaches from 1 to all of it. Hybrids: half of that, in logarithms.

x86-avx2 has no such table: the AVX-512 rows times sqrt(2), band 1 to 2 (half the vector width, same clock).
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from tcs_edge.specs.profile import LatencyRow, Profile, load_profile, save_profile
from tcs_edge.students.candidates import CANDIDATES

NCNN_SOURCE = "Tencent/ncnn benchmark/README.md @ a4d2ea1d4 (BSD-3-Clause)"
NCNN_NETWORKS = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3": "mobilenetv3_large_100",
    "mnasnet": "mnasnet_100",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnetv2_b0": "tf_efficientnetv2_b0",
    "regnety_400m": "regnety_004",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
}
NCNN_TRANSFORMER, HOST_TRANSFORMER = "vision_transformer", ("vit_base_patch32_384", 384)
REFERENCE_PX = 224
SIZE_FACTOR_PER_HALVING = 1.25
CONFIDENCE = 0.90
AVX2_FACTOR = 2.0


@dataclass(frozen=True)
class Board:
    """A board of ncnn's table and the thread counts published for it."""

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
)
# What is no single-board computer has no say in the transformer factor: a phone's is higher (3.7 to 4.7).
OTHERS = (
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
    """One published cell: ms."""

    min_ms: float
    avg_ms: float
    max_ms: float


@dataclass(frozen=True)
class Transfer:
    """log(board / host) of convolutional nets: mean, half width of the 90 % interval, each network's own."""

    mean: float
    half_width: float
    own: dict[str, float]


HostTimes = dict[tuple[str, int, int], float]
NcnnTimes = dict[tuple[str, int, str], NcnnTime]


def read_ncnn(table: Path) -> NcnnTimes:
    """CPU rows by (device, threads, network)."""
    with table.open(encoding="utf-8") as handle:
        return {
            (row["device"], int(row["num_threads"]), row["model"]): NcnnTime(
                float(row["min_ms"]), float(row["avg_ms"]), float(row["max_ms"])
            )
            for row in csv.DictReader(handle)
            if row["gpu_device"] == "-1"
        }


def read_runtime_factor(table: Path) -> float:
    """onnxruntime / ncnn for the same network on the same board, the only pair published."""
    with table.open(encoding="utf-8") as handle:
        ms = {row["runtime"]: float(row["ms"]) for row in csv.DictReader(handle) if row["model"] == "yolo11n"}
    return ms["onnxruntime"] / ms["ncnn"]


def host_threads(threads: int) -> int:
    """A single thread is compared with a single thread, several with the host's two."""
    return 1 if threads == 1 else 2


def transfer(board: Board, threads: int, ncnn: NcnnTimes, host: HostTimes) -> Transfer:
    """Ratios of one board and thread count, with the interval that leaving each network out suggests."""
    own = {}
    for network, model in NCNN_NETWORKS.items():
        cell = ncnn.get((board.ncnn_device, threads, network))
        if cell:
            own[model] = math.log(cell.avg_ms / host[model, REFERENCE_PX, host_threads(threads)])
    ratios = np.array(list(own.values()))
    count = len(ratios)
    left_out = (ratios - ratios.mean()) * count / (count - 1)
    spread = math.sqrt(float(np.mean(left_out**2)))
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    return Transfer(float(ratios.mean()), quantile * spread, own)


def transformer_factor(ncnn: NcnnTimes, host: HostTimes) -> float:
    """By how much boards run ncnn's transformer slower than the convolutional ratio predicts (log mean)."""
    logs = []
    for board in BOARDS:
        for threads in board.threads:
            cell = ncnn.get((board.ncnn_device, threads, NCNN_TRANSFORMER))
            if cell:
                expected = transfer(board, threads, ncnn, host).mean
                logs.append(math.log(cell.avg_ms / host[(*HOST_TRANSFORMER, host_threads(threads))]) - expected)
    return math.exp(float(np.mean(logs)))


def published_rows(board: Board, ncnn: NcnnTimes) -> list[LatencyRow]:
    """ncnn's rows of networks that equal a candidate. Its average stands for the median."""
    rows = []
    for network, model in NCNN_NETWORKS.items():
        for suffix in ("", "_int8"):
            for threads in board.threads:
                cell = ncnn.get((board.ncnn_device, threads, network + suffix))
                if cell is None:
                    continue
                rows.append(
                    LatencyRow(
                        model=model,
                        img_size=REFERENCE_PX,
                        runtime="ncnn",
                        threads=threads,
                        precision="int8" if suffix else "fp16" if board.fp16_arithmetic else "fp32",
                        p50_ms=cell.avg_ms,
                        low_ms=cell.min_ms,
                        high_ms=cell.max_ms,
                        source="published",
                        citation="ncnn",
                    )
                )
    return rows


@dataclass(frozen=True)
class Estimator:
    """Everything the estimates of one board and thread count are made from."""

    host: HostTimes
    threads: int
    transfer: Transfer
    runtime_log: float
    runtime_half_width: float
    transformer_log: float

    def row(self, model: str, img_size: int) -> LatencyRow:
        """The estimated onnxruntime latency of one model and size; the steps are the module's."""
        near = host_threads(self.threads)
        here, reference = self.host[model, img_size, near], self.host[model, REFERENCE_PX, near]
        own = model in self.transfer.own
        kind_log = self._kind_log(model) / 2
        centre = math.log(here) + self.transfer.own.get(model, self.transfer.mean) + self.runtime_log + kind_log
        both_ways = math.hypot(0.0 if own else self.transfer.half_width, self.runtime_half_width)
        smaller = math.log(REFERENCE_PX / img_size)
        overhead = max(0.0, 2 * smaller - math.log(reference / here))
        up = math.hypot(both_ways, math.log(SIZE_FACTOR_PER_HALVING) * smaller / math.log(2)) + kind_log
        down = math.hypot(both_ways, overhead) + kind_log
        low, p50, high = (round(math.exp(value), 3) for value in (centre - down, centre, centre + up))
        return LatencyRow(
            model=model,
            img_size=img_size,
            runtime="onnxruntime",
            threads=self.threads,
            precision="fp32",
            p50_ms=p50,
            low_ms=low,
            high_ms=high,
            source="estimated",
            citation="own-ratio" if own else f"transfer-{CANDIDATES[model].kind}",
        )

    def _kind_log(self, model: str) -> float:
        share = {"transformer": 1.0, "hybrid": 0.5}.get(CANDIDATES[model].kind, 0.0)
        return share * self.transformer_log


def estimator(board: Board, threads: int, ncnn: NcnnTimes, host: HostTimes, factor: float) -> Estimator:
    """`factor` is the published onnxruntime / ncnn ratio of a board with fp16 arithmetic."""
    half = math.log(factor) / 2
    runtime_log = math.log(factor) if board.fp16_arithmetic else half
    kind_log = math.log(transformer_factor(ncnn, host))
    return Estimator(host, threads, transfer(board, threads, ncnn, host), runtime_log, half, kind_log)


def citations(factor: float, fp16: bool, kind_factor: float, ratios: dict[int, Transfer]) -> dict[str, str]:
    """How each kind of row came about, with the figures used."""
    applied = factor if fp16 else math.sqrt(factor)
    runtime = (
        f"x {applied:.2f} for onnxruntime instead of ncnn (yolo11n on a Raspberry Pi 5: {factor:.2f}"
        f"{'' if fp16 else ', its square root because this CPU has no fp16 arithmetic'}; "
        "Ultralytics Raspberry Pi guide)"
    )
    means = ", ".join(
        f"{math.exp(r.mean):.2f} with {threads} thread{'s' * (threads > 1)} (90 % interval x/: "
        f"{math.exp(r.half_width):.2f})"
        for threads, r in ratios.items()
    )
    base = f"x86-avx512 measurement x geometric mean of board/host over {len(ratios[1].own)} networks: {means}"
    return {
        "ncnn": f"{NCNN_SOURCE}; average, minimum and maximum of its runs, random weights",
        "own-ratio": f"ncnn's figure for this network at 224 px ({NCNN_SOURCE}), {runtime}; other sizes "
        "follow the curve measured on x86-avx512",
        "transfer-cnn": f"{base}; {runtime}",
        "transfer-hybrid": f"{base}; {runtime}; x {kind_factor**0.25:.2f} (band 1 to {kind_factor**0.5:.2f}) "
        "for its attention, half of what ncnn's transformer shows",
        "transfer-transformer": f"{base}; {runtime}; x {kind_factor**0.5:.2f} (band 1 to {kind_factor:.2f}) "
        "as ncnn's one transformer is that much slower than convolutional nets predict",
    }


def board_profile(board: Board, ncnn: NcnnTimes, host: HostTimes, factor: float) -> Profile:
    """Published and estimated rows of one board."""
    sizes = sorted({size for _, size, _ in host} - {HOST_TRANSFORMER[1]})
    models = [name for name in CANDIDATES if (name, REFERENCE_PX, 1) in host]
    rows = published_rows(board, ncnn)
    for threads in board.threads:
        estimate = estimator(board, threads, ncnn, host, factor)
        rows += [estimate.row(model, size) for model in models for size in sizes]
    ratios = {threads: transfer(board, threads, ncnn, host) for threads in board.threads}
    texts = citations(factor, board.fp16_arithmetic, transformer_factor(ncnn, host), ratios)
    return Profile(
        target=board.target,
        notes=("Nothing was measured on this board: time the exported model there before relying on it.",),
        citations={key: texts[key] for key in texts if key in {row.citation for row in rows}},
        rows=tuple(rows),
    )


def avx2_profile(measured: Iterable[LatencyRow]) -> Profile:
    """The AVX-512 rows carried over to half the vector width."""
    changes = {"source": "estimated", "citation": "avx2", "p90_ms": None, "p99_ms": None}
    rows = tuple(
        row.model_copy(
            update=changes
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

    measured = load_profile(args.host).rows
    host = {(row.model, row.img_size, row.threads): row.p50_ms for row in measured}
    ncnn = read_ncnn(args.latency_dir / "ncnn.csv")
    factor = read_runtime_factor(args.latency_dir / "published_small_tables.csv")
    print(f"onnxruntime / ncnn {factor:.2f}; transformer factor {transformer_factor(ncnn, host):.2f}")
    for board in BOARDS + OTHERS:
        for threads in board.threads:
            found = transfer(board, threads, ncnn, host)
            logs = {model: round(math.exp(value - found.mean), 2) for model, value in found.own.items()}
            print(
                board.target,
                threads,
                f"x {math.exp(found.mean):.2f} x/: {math.exp(found.half_width):.2f}",
                logs,
            )
        save_profile(board_profile(board, ncnn, host, factor), args.out / f"{board.target}.json")
    save_profile(avx2_profile(measured), args.out / "x86-avx2.json")


if __name__ == "__main__":
    main()
