"""Evaluate predicted latencies of boards against published ones that are left out.

    python benchmarks/evaluate_transfer.py --latency-dir DIR [--all-boards]

DIR has ncnn.csv and mlperf_edge_cpu.csv. Devices in further rows of these files are evaluated too, with --all-boards or
if their names have one of --board. For every device:

- The coefficients and the usual spread come from other boards only. Devices with one processor count as one board.
- Each network is left out in turn, on all devices at once and with all its sizes (for MLPerf's rows also each input
  size, and each family). It is predicted from the rest of the device's rows.
- "3 networks": the device's factor comes from three of its networks, the others are predicted.
- "whole board": no row of the device is known. Its facts give the factor, with the constants of the other devices.

The last lines have the runtime pairs, and the constants of tcs_edge/latency/transfer.py.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from fit_board_model import FEWEST, TERMS, in_float16, points, pooled_figures
from published_tables import Series, read_mlperf, read_ncnn

from tcs_edge.latency.board import BoardFit, Point, Pooled, Traits, fit_board, pool, t_quantile
from tcs_edge.latency.cost_model import Shares
from tcs_edge.latency.reference import reference
from tcs_edge.latency.runtime_ratio import DENSE_SHARE, NCNN_PI5, published_pairs, runtime_ratio
from tcs_edge.latency.transfer import PEAK_LOG, by_facts
from tcs_edge.specs.target import Cpu, load_target

BOARDS = ("Raspberry Pi 4", "Raspberry Pi 5 Broadcom BCM2712, C", "RK3588S (4x")
# Words that devices of one board, or with its processor, share.
SAME = (
    "Raspberry Pi 4", "Raspberry Pi 5", "RK3588", "RK3399", "RK3566", "RK3568", "AGX Orin", "Orin Nano", "Xavier",
    "Snapdragon 8", "KunPeng 920", "Kunpeng 920", "Raspberry Pi 3", "Zero 2 W",
)  # fmt: skip
FEW = 3
# Target, ncnn's device and its most threads, for the factor by processor facts.
TARGETS = {
    "raspberrypi5": ("Raspberry Pi 5 Broadcom BCM2712, Cortex", 4),
    "raspberrypi4": ("Raspberry Pi 4 Model B", 4),
    "raspberrypi3": ("Raspberry Pi 3 Model B+", 4),
    "raspberrypi-zero2w": ("Raspberry Pi Zero 2 W", 4),
    "intel-n5105": ("Intel Celeron N5105", 4),
    "jetson-orin-nano": ("NVIDIA Jetson Orin Nano", 6),
    "apple-m": ("MacBook Pro (13-inch, M1, 2020)", 1),
    "android-arm64": ("Snapdragon 855+", 4),
}


@dataclass(frozen=True)
class LeftOut:
    """A published latency and its prediction, as logarithms of ms, and half of the interval."""

    published: float
    predicted: float
    half: float


def group_of(device: str) -> str:
    """Return the board or processor of a device; the Pi 5's processor is that of the RK3588's large cores."""
    found = next((word for word in SAME if word in device), device)
    return "Raspberry Pi 5" if found == "RK3588" else found


class Evaluation:
    """Predictions of left-out latencies, with figures of the other boards that are fitted once per board."""

    def __init__(self, series: Sequence[Series]) -> None:
        usable = [one for one in series if one.runtime in TERMS]
        self.boards = [(one, points(one)) for one in usable]
        self.boards = [(one, own) for one, own in self.boards if len({point.model for point in own}) >= FEWEST]
        self._spreads: dict[tuple[str, str], float] = {}

    def others(self, one: Series) -> list[tuple[list[Point], bool]]:
        """Return all series in the same runtime on other boards: their points, and True if they are in float16."""
        group = group_of(one.device)
        same = [(other, own) for other, own in self.boards if other.runtime == one.runtime]
        return [(own, in_float16(other)) for other, own in same if group_of(other.device) != group]

    def pooled(self, one: Series, without: Callable[[Point], bool]) -> Pooled:
        """Fit the coefficients to the other boards without some of their points; the spread is with all of them."""
        terms, boards = TERMS[one.runtime], self.others(one)
        key = (one.runtime, group_of(one.device))  # the devices of a group have the same arithmetic
        if key not in self._spreads:
            self._spreads[key] = pooled_figures(boards, terms).in_arithmetic(in_float16(one)).spread
        rest = [[point for point in own if not without(point)] for own, _ in boards]
        return replace(pool([own for own in rest if own], terms), spread=self._spreads[key])

    def leave_out(self, one: Series, own: Sequence[Point], label: Callable[[Point], object]) -> list[LeftOut]:
        """Predict the points of each label from the others."""
        found = []
        for value in sorted({label(point) for point in own}, key=str):
            rest = [point for point in own if label(point) != value]
            if len({point.model for point in rest}) >= FEW:
                pooled = self.pooled(one, lambda point, value=value: label(point) == value)  # type: ignore[misc]
                found += predictions(fit_board(rest, pooled), [point for point in own if label(point) == value])
        return found

    def from_few(self, one: Series, own: Sequence[Point]) -> list[LeftOut]:
        """Predict all networks from `FEW` of them, for a few draws."""
        rng, found = np.random.default_rng(0), []
        models = sorted({point.model for point in own})
        pooled = self.pooled(one, lambda _: False)
        for _ in range(10):
            known = set(rng.choice(models, FEW, replace=False))
            fit = fit_board([point for point in own if point.model in known], pooled)
            found += predictions(fit, [point for point in own if point.model not in known])
        return found


def predictions(fit: BoardFit, left_out: Iterable[Point]) -> list[LeftOut]:
    """Compare a fit with published latencies."""
    return [_left_out(point, fit.log(point.traits), fit.half_width) for point in left_out]


def _left_out(point: Point, predicted: float, half: float) -> LeftOut:
    base = math.log(point.traits.reference_ms)
    return LeftOut(point.log + base, predicted + base, half)


def figures(name: str, results: Sequence[LeftOut]) -> str:
    """Return a row of the table in docs/explanation/choice.md."""
    if not results:
        return f"| {name} | 0 |"
    published, predicted, half = np.array([(each.published, each.predicted, each.half) for each in results]).T
    error = np.abs(np.exp(predicted - published) - 1)
    inside = np.mean(np.abs(predicted - published) <= half)
    return (
        f"| {name} | {len(error)} | {np.median(error):.1%} | {np.quantile(error, 0.9):.1%} | "
        f"{spearmanr(published, predicted)[0]:.3f} | {inside:.0%} | {math.exp(np.median(half)):.2f} |"
    )


def family(point: Point) -> str:
    """Return the family of an MLPerf network: mobilenetv1, mobilenetv2, mobilenetv3 or efficientnet."""
    return point.model.removeprefix("tf_").split("_")[0]


def print_boards(evaluation: Evaluation, words: Sequence[str], all_boards: bool) -> None:
    """Print the rows of the wanted devices, and those of all devices together."""
    print("| left out | rows | median error | 90th percentile | rank correlation | coverage | interval, factor |")
    total: dict[str, list[LeftOut]] = {}
    for word in words:
        for runtime in TERMS:
            chosen = [(one, own) for one, own in evaluation.boards if one.runtime == runtime and word in one.device]
            print_rows(f"{word}, {runtime}", evaluation, chosen, total)
    for label, results in total.items():
        print(figures(f"all of these, {label}", results), flush=True)
    if all_boards:
        chosen = [(one, own) for one, own in evaluation.boards if one.runtime == "ncnn"]
        print_rows("all devices, ncnn", evaluation, chosen, {})


def print_rows(
    name: str, evaluation: Evaluation, chosen: Sequence[tuple[Series, list[Point]]], total: dict[str, list[LeftOut]]
) -> None:
    labels: dict[str, Callable[[Point], object]] = {"network": lambda point: point.model}
    if any(len({point.traits.img_size for point in own}) > 1 for _, own in chosen):
        labels |= {"input size": lambda point: point.traits.img_size, "family": family}
    for label, by in labels.items() if chosen else ():
        results = [each for one, own in chosen for each in evaluation.leave_out(one, own, by)]
        total.setdefault(label, []).extend(results)
        print(figures(f"{name}: {label}", results), flush=True)
    if chosen:
        few = [each for one, own in chosen for each in evaluation.from_few(one, own)]
        total.setdefault(f"all but {FEW} networks", []).extend(few)
        print(figures(f"{name}: all but {FEW} networks", few), flush=True)


def print_pairs() -> None:
    """Print the error of the runtime ratio for left-out pairs."""
    pairs = [pair for pair in published_pairs() if {"onnxruntime", "ncnn"} <= pair.ms.keys()]
    found = []
    for pair in pairs:
        traits = Traits(Shares(dense=DENSE_SHARE[pair.depthwise]), pair.ms["ncnn"] / NCNN_PI5, 224)
        ratio = runtime_ratio("onnxruntime", "ncnn", traits, tuple(other for other in pairs if other is not pair))
        assert ratio is not None  # fourteen pairs are left
        found.append(LeftOut(pair.log("onnxruntime", "ncnn"), ratio.log, ratio.half))
    print(figures("onnxruntime / ncnn on a Raspberry Pi 5: pair", found))


def target_boards(evaluation: Evaluation) -> list[tuple[float, list[Point]]]:
    """Return the log ratio of the peak arithmetic rates, and the networks, of each device in `TARGETS`.

    The latencies are the published ones of ncnn, times the ratio of onnxruntime to ncnn.
    """
    found = []
    for name, (device, threads) in TARGETS.items():
        own = [own for one, own in evaluation.boards if device in one.device and one.threads == threads]
        if own:
            cpu = load_target(name).cpu
            peak = by_facts(cpu, threads, host(), reference(threads).threads).mean - PEAK_LOG
            found.append((peak, [replace(point, log=_onnxruntime(point, cpu)) for point in own[0]]))
    return found


def whole_boards(evaluation: Evaluation) -> list[LeftOut]:
    """Predict every network of a board without any row of it, from its facts and the other boards."""
    boards, found = target_boards(evaluation), []
    for number, (peak, own) in enumerate(boards):
        others = _beyond_peak([*boards[:number], *boards[number + 1 :]])
        half = t_quantile(len(others) - 1) * stdev(others) * math.sqrt(1 + 1 / len(others))
        found += [_left_out(point, peak + fmean(others), half) for point in own]
    return found


def _beyond_peak(boards: Sequence[tuple[float, list[Point]]]) -> list[float]:
    return [fmean(point.log for point in own) - peak for peak, own in boards]


def print_constants(evaluation: Evaluation) -> None:
    """Print the constants of transfer.py: the spread without terms, and the ratio to the peak arithmetic."""
    plain = [np.var([point.log for point in own], ddof=1) for one, own in evaluation.boards if one.runtime == "ncnn"]
    print(f"usual spread without terms: {math.sqrt(float(np.median(plain))):.2f}")
    logs = _beyond_peak(target_boards(evaluation))
    print(f"board / peak: x {math.exp(fmean(logs)):.2f}, spread {stdev(logs):.2f}, {len(logs)} boards")


def host() -> Cpu:
    """Return the processor of the reference machine."""
    return load_target(reference(1).model.reference).cpu


def _onnxruntime(point: Point, cpu: Cpu) -> float:
    ratio = runtime_ratio("onnxruntime", "ncnn", point.traits)
    assert ratio is not None  # published
    return point.log + ratio.log * (1.0 if cpu.fp16_arithmetic else 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-dir", type=Path, required=True)
    parser.add_argument("--board", action="append", help="Part of a device's name; repeatable.")
    parser.add_argument("--all-boards", action="store_true", help="Also evaluate every device of ncnn's table.")
    args = parser.parse_args()

    series = [*read_ncnn(args.latency_dir / "ncnn.csv"), *read_mlperf(args.latency_dir / "mlperf_edge_cpu.csv")]
    evaluation = Evaluation(series)
    print_boards(evaluation, args.board or BOARDS, args.all_boards)
    print(figures("8 boards, from their facts alone: whole board", whole_boards(evaluation)))
    print_pairs()
    print_constants(evaluation)


if __name__ == "__main__":
    main()
