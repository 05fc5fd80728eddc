"""Fit the pooled figures of boards to published latency tables.

    python tools/fit_board_model.py --latency-dir DIR --out tcs_edge/latency/board_model.json

Every device with at least ten convolutional networks in float counts. tcs_edge/latency/board.py describes the model.
Also fits the effect of the input size, the slowdown of transformers, and the ratio of int8 to float.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from published_tables import (
    MLPERF_SOURCES,
    NCNN_SOURCE,
    Series,
    has_dot_product,
    has_float16,
    is_arm,
    read_mlperf,
    read_ncnn,
)

from tcs_edge.latency.board import (
    BOARD_MODEL_VERSION,
    CONFIDENCE,
    Point,
    Pooled,
    Traits,
    fit_board,
    half_width,
    pool,
    size_slope,
    solve,
)
from tcs_edge.latency.precision import pooled
from tcs_edge.latency.reference import reference
from tcs_edge.latency.transfer import TRANSFORMER
from tcs_edge.utils.files import write_json

# ncnn's networks are of many kinds and of one size; MLPerf's are of two kinds and of many sizes.
TERMS = {
    "ncnn": ("dense", "large_dense", "slow", "weights"),
    "tflite": ("halvings",),
    "armnn": ("halvings",),
}
FEWEST, FEWEST_SIZED = 10, 30
# MLPerf states no thread count. All cores are assumed; the reference is measured with at most two.
UNKNOWN_THREADS = 4


def points(series: Series) -> list[Point]:
    """Return the float rows of convolutional networks, against their predicted reference latency."""
    against = reference(series.threads or UNKNOWN_THREADS)
    found = []
    for network, row in series.of("fp32").items():
        predicted = against.published(network.model, network.img_size)
        if predicted and predicted.shares.transformer <= TRANSFORMER:
            traits = Traits(predicted.shares, predicted.p50_ms, network.img_size)
            found.append(Point(network.model, traits, math.log(row.p50_ms / predicted.p50_ms)))
    return found


def in_float16(series: Series) -> bool:
    """Return True if the runtime computes float models in float16 on this device."""
    return series.runtime == "ncnn" and has_float16(series.device)


def usable(series: Iterable[Series], runtime: str) -> list[tuple[list[Point], bool]]:
    """Return every series of a runtime with enough networks: its points, and True if they are in float16."""
    boards = [(points(one), in_float16(one)) for one in series if one.runtime == runtime and one.runtime in TERMS]
    return [(board, half) for board, half in boards if len({point.model for point in board}) >= FEWEST]


def pooled_figures(series: Sequence[tuple[Sequence[Point], bool]], terms: Sequence[str]) -> Pooled:
    """Fit the coefficients, and the spread of networks that are left out on every board at once.

    Devices with float16 arithmetic have a spread of their own: they are less alike than the others.
    """
    boards = [board for board, _ in series]
    models = sorted({point.model for board in boards for point in board})
    residuals: dict[int, list[float]] = defaultdict(list)
    for model in models:
        rest = [[point for point in board if point.model != model] for board in boards]
        without = pool(rest, terms)
        for number, board in enumerate(boards):
            intercept, coefficients = solve(rest[number], without)
            residuals[number] += [
                point.log - intercept - float(np.dot(coefficients, without.values(point.traits)))
                for point in board
                if point.model == model
            ]
    floats, halves = (
        [residuals[number] for number, (_, own) in enumerate(series) if own is half] for half in (False, True)
    )
    spread = calibrated_spread(floats or halves)
    return replace(pool(boards, terms), spread=spread, fp16_spread=calibrated_spread(halves) if halves else None)


def calibrated_spread(residuals: Sequence[Sequence[float]]) -> float:
    """Return the usual spread with which 90 % of the left-out networks are inside of their interval."""
    low, high = 0.01, 2.0
    while high - low > 0.001:
        middle = (low + high) / 2
        inside = [
            abs(own) <= half_width(middle, [*board[:number], *board[number + 1 :]], len(board) - 1)
            for board in residuals
            for number, own in enumerate(board)
        ]
        low, high = (middle, high) if np.mean(inside) < CONFIDENCE else (low, middle)
    return high


def halving_figures(all_series: Sequence[Series]) -> dict[str, float]:
    """Mean and spread of the effect of halving the input size, over the boards; each board counts once."""
    slopes: dict[str, list[float]] = defaultdict(list)
    for one in all_series:
        slope = size_slope(points(one)) if one.runtime in TERMS else None
        if slope is not None and len(one.of("fp32")) >= FEWEST_SIZED:
            slopes[one.device.split(",")[0]].append(slope)
            print(f"halving the input size, {one.device}, {one.runtime}: {slope:.3f}")
    means = [float(np.mean(values)) for values in slopes.values()]
    return {"mean": float(np.mean(means)), "spread": float(np.std(means, ddof=1)), "series": len(means)}


def transformer_log(all_series: Iterable[Series], figures: Pooled) -> float:
    """Mean log of the boards' additional slowdown in operators that only transformers have."""
    lags = []
    for one in all_series:
        board, against = points(one), reference(one.threads or UNKNOWN_THREADS)
        if one.runtime != "ncnn" or len(board) < FEWEST:
            continue
        fit = fit_board(board, figures.in_arithmetic(in_float16(one)))
        for network, row in one.of("fp32").items():
            found = against.published(network.model, network.img_size)
            if found and found.shares.transformer > TRANSFORMER:
                traits = Traits(found.shares, found.p50_ms, network.img_size)
                lag = math.log(row.p50_ms / found.p50_ms) - fit.log(traits)
                lags.append(lag / found.shares.transformer)
    return float(np.mean(lags))


def int8_figures(all_series: Iterable[Series]) -> dict[str, dict[str, Any]]:
    """Published int8 / float by runtime and by the processor's int8 dot product, on Arm."""
    logs: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for one in all_series:
        if not is_arm(one.device) or "int8" not in {network.precision for network in one.rows}:
            continue
        core = "dot product" if has_dot_product(one.device) else "no dot product"
        ratios = int8_logs(one)
        if len(ratios) >= 3:
            logs[one.runtime][core].append(ratios)
    return {
        runtime: {core: vars(pooled(series)) for core, series in by_core.items()} for runtime, by_core in logs.items()
    }


def int8_logs(series: Series) -> list[float]:
    """Return log(int8 ms / float ms) of every network with both."""
    floats = series.of("fp32")
    pairs = ((row, floats.get(network._replace(precision="fp32"))) for network, row in series.of("int8").items())
    return [math.log(row.p50_ms / plain.p50_ms) for row, plain in pairs if plain]


def rounded(value: Any) -> Any:
    """Round every number in a document to four digits."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    series = [*read_ncnn(args.latency_dir / "ncnn.csv"), *read_mlperf(args.latency_dir / "mlperf_edge_cpu.csv")]
    runtimes = {}
    for name, terms in TERMS.items():
        boards = usable(series, name)
        runtimes[name] = pooled_figures(boards, terms)
        print(f"{name}: {len(boards)} series, {runtimes[name]}")
    document = {
        "schema_version": BOARD_MODEL_VERSION,
        "sources": [NCNN_SOURCE, *MLPERF_SOURCES.values(), "numbers unverified by us"],
        "runtimes": {name: vars(figures) for name, figures in runtimes.items()},
        "halving": halving_figures(series),
        "transformer_log": transformer_log(series, runtimes["ncnn"]),
        "int8": int8_figures(series),
    }
    write_json(args.out, rounded(document))
    print({name: document[name] for name in ("halving", "transformer_log", "int8")})


if __name__ == "__main__":
    main()
