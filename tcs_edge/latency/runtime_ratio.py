"""Ratio of the latencies of two runtimes on one board, from networks published in both of them.

The pairs are detectors on a Raspberry Pi 5 (runtime_pairs.json). Between onnxruntime and ncnn there are 15. Their ratio
is 1.25 to 1.44 for networks of depthwise convolutions, and 1.7 to 2.9 for others, where it grows with the network:

    log(onnxruntime / ncnn) = a + b x dense + c x dense x log10(ncnn ms / 10)

`dense` is the network's share of dense convolutions. Between other runtimes there are two pairs. Their mean is used.
Two networks of one kind show nothing of other kinds: the spread is that of onnxruntime and ncnn over all kinds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, stdev

from tcs_edge.latency.board import Traits, t_quantile
from tcs_edge.utils.reading import read_json

PAIRS_FILE = Path(__file__).parent / "runtime_pairs.json"
PAIRS_VERSION = 1
# Share of dense convolutions in the latency of the published networks, which were not counted: a typical value of
# candidates with and without depthwise convolutions on the reference machine.
DENSE_SHARE = {True: 0.05, False: 0.75}
TYPICAL_MS = 10.0
# ncnn's latency on the Raspberry Pi 5 relative to the reference machine: median of the published networks.
NCNN_PI5 = 1.35
# Fewest pairs for a fit of the three coefficients.
FEWEST_PAIRS = 8


@dataclass(frozen=True)
class Pair:
    """A network with its latency in ms by runtime, on one board; `published_ratio` is onnxruntime's over ncnn's."""

    network: str
    depthwise: bool
    ms: Mapping[str, float]
    published_ratio: float | None = None

    def log(self, runtime: str, other: str) -> float:
        """Return log(latency in `runtime` / latency in `other`)."""
        if self.published_ratio and (runtime, other) == ("onnxruntime", "ncnn"):
            return math.log(self.published_ratio)
        return math.log(self.ms[runtime] / self.ms[other])


@dataclass(frozen=True)
class Ratio:
    """Logarithm of a ratio, half of its 90 % interval, and the number of pairs behind it."""

    log: float
    half: float
    pairs: int


@cache
def published_pairs() -> tuple[Pair, ...]:
    """Load the published pairs."""
    raw = read_json(PAIRS_FILE, PAIRS_VERSION)
    return tuple(
        Pair(entry["network"], entry["depthwise"], entry["ms"], entry.get("onnxruntime_over_ncnn"))
        for entry in raw["pairs"]
    )


def runtime_ratio(runtime: str, other: str, traits: Traits, pairs: tuple[Pair, ...] | None = None) -> Ratio | None:
    """Estimate the latency in `runtime` relative to that in `other`; None if no network was published in both.

    Args:
        traits: the network; its size counts as its latency on the reference machine, whatever the board.
        pairs: default the published ones.
    """
    if runtime == other:
        return Ratio(0.0, 0.0, 0)
    known = published_pairs() if pairs is None else pairs
    both = [pair for pair in known if runtime in pair.ms and other in pair.ms]
    if len(both) >= FEWEST_PAIRS:
        return _fitted(both, runtime, other, traits.shares.dense, NCNN_PI5 * traits.reference_ms)
    if not both:
        return None
    logs = [pair.log(runtime, other) for pair in both]
    spread = spread_over_kinds(known)
    half = t_quantile(spread.pairs - 1) * spread.half * math.sqrt(1 + 1 / len(logs))
    return Ratio(fmean(logs), half, len(logs))


def spread_over_kinds(pairs: tuple[Pair, ...] | None = None) -> Ratio:
    """Return the mean, the standard deviation (as `half`) and the number of onnxruntime's and ncnn's log ratios."""
    known = published_pairs() if pairs is None else pairs
    logs = [pair.log("onnxruntime", "ncnn") for pair in known if {"onnxruntime", "ncnn"} <= pair.ms.keys()]
    return Ratio(fmean(logs), stdev(logs), len(logs))


def _fitted(pairs: list[Pair], runtime: str, other: str, dense: float, other_ms: float) -> Ratio:
    """Predict from a least-squares fit, with its prediction interval."""
    import numpy as np

    rows = np.array([_terms(DENSE_SHARE[pair.depthwise], pair.ms[other]) for pair in pairs])
    logs = np.array([pair.log(runtime, other) for pair in pairs])
    inverse = np.linalg.inv(rows.T @ rows)
    found = inverse @ rows.T @ logs
    degrees = len(logs) - rows.shape[1]
    variance = float(np.sum((logs - rows @ found) ** 2)) / degrees
    here = np.array(_terms(dense, other_ms))
    half = t_quantile(degrees) * math.sqrt(variance * (1 + float(here @ inverse @ here)))
    return Ratio(float(here @ found), half, len(pairs))


def _terms(dense: float, other_ms: float) -> tuple[float, float, float]:
    return (1.0, dense, dense * math.log10(other_ms / TYPICAL_MS))
