"""Latency factor of a device relative to the reference machine, with its uncertainty.

The evidence is the first of these:

1. Rows of the device in the runtime itself. The factor is the mean of log(device / reference) over the networks known
   on both, with a 90 % prediction interval for another network.
2. Rows of the device in another runtime (a proxy): the log-linear model of `board`, times the ratio of the two runtimes
   of `runtime_ratio`. Rows in the runtime itself correct it.
3. The processors' facts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from tcs_edge.latency.board import (
    NORMAL_90,
    USUAL_NETWORKS,
    BoardFit,
    BoardModel,
    Point,
    Traits,
    fit_board,
    shipped_board_model,
    size_slope,
    t_quantile,
    without_outliers,
)
from tcs_edge.latency.reference import Reference
from tcs_edge.latency.runtime_ratio import runtime_ratio, spread_over_kinds
from tcs_edge.specs.profile import LatencyRow
from tcs_edge.specs.target import Cpu

# Usual spread of log(board / reference) over convolutional networks without further terms
# (benchmarks/evaluate_transfer.py).
USUAL_SPREAD = 0.27
# Slowdown of the boards beyond the ratio of the peak arithmetic rates: geometric mean, spread of the logarithms, and
# number of boards (the same script).
PEAK_LOG, PEAK_SPREAD, PEAK_BOARDS = math.log(1.47), 0.99, 8
# A network is a transformer for the fit of a board above this share of a transformer's operators.
TRANSFORMER = 0.5


@dataclass(frozen=True)
class Factor:
    """Factor log(device / reference): its center, and the distances `down` and `up` to the ends of its interval."""

    center: float
    down: float
    up: float
    how: str


@dataclass(frozen=True)
class Correction:
    """Correction of an estimate from a proxy by rows in the runtime itself, in logarithms.

    `log` is added; `log_half` is half of its interval. `half` is half of the interval of a network without rows.
    """

    log: float
    log_half: float
    half: float
    networks: int


@dataclass(frozen=True)
class Transfer:
    """Factor of a device relative to the reference for one thread count, in logarithms.

    `mean` and `half_width` describe the factor of a network without rows; `fit` adds the terms of the network. `own`
    holds log(device / reference) of the networks known on both, in runtime `proxy`. `runtime` is the wanted runtime.
    `runtime_share` scales the ratio of the runtimes, and `runtime_half` is added to its interval. `halving` and
    `halving_half` are the change for each halving of the input size and half of its interval. `transformer_log` is the
    additional slowdown of transformers. `correction` comes from rows in the wanted runtime. `how` describes the
    derivation in words. `evident` is True if the factor is based on rows.
    """

    mean: float
    half_width: float
    how: str
    fit: BoardFit | None = None
    own: Mapping[str, float] = field(default_factory=dict)
    runtime: str = ""
    proxy: str = ""
    runtime_share: float = 1.0
    runtime_half: float = 0.0
    halving: float = 0.0
    halving_half: float = 0.0
    transformer_log: float = 0.0
    correction: Correction | None = None
    evident: bool = True

    def factor(self, model: str, traits: Traits) -> Factor:
        """Compute the factor for one student."""
        if self.fit is None:
            half = math.hypot(self.half_width, self.runtime_half)
            return Factor(self.mean, half, half, self.how)
        own, log, half = self.own.get(model), self.fit.log(traits), self.half_width
        kind = traits.shares.transformer * self.transformer_log / 2
        if own is not None:
            log, half, kind = own, 0.0, 0.0
        halvings = traits.value("halvings")
        ratio, ratio_half = self._ratio(traits)
        center, spread = log + kind + ratio + self.halving * halvings, math.hypot(half, ratio_half)
        note = self._note(ratio)
        if self.correction:
            center += self.correction.log
            spread = self.correction.half if own is None else math.hypot(spread, self.correction.log_half)
            note += f", corrected by {self.correction.networks} networks with {self.runtime}"
        spread = math.hypot(spread, self.halving_half * halvings) + kind
        evidence = f"this network with {self.proxy}" if own is not None else self.how
        return Factor(center, spread, spread, f"x {math.exp(center):.3g}, from {evidence}{note}")

    def _ratio(self, traits: Traits) -> tuple[float, float]:
        """Return the log ratio of the wanted runtime to the proxy, and half of its interval."""
        found = runtime_ratio(self.runtime, self.proxy, traits)
        if found is None:
            return 0.0, 0.0
        log = self.runtime_share * found.log
        return log, math.hypot(found.half, self.runtime_half, (1 - self.runtime_share) * found.log)

    def _note(self, ratio: float) -> str:
        if self.runtime == self.proxy:
            return ""
        return f", including x {math.exp(ratio):.3g} for {self.runtime} instead of {self.proxy}"


def by_rows(rows: Iterable[LatencyRow], against: Reference) -> Transfer | None:
    """Estimate the transfer from rows of the same runtime; None if no row has a network known on the reference.

    Estimated rows are ignored, since they are the result of a transfer themselves.
    """
    logs = _logs((row for row in rows if row.source != "estimated"), against)
    if not logs:
        return None
    means = {model: fmean(values) for model, values in logs.items()}
    mean, half = interval(list(means.values()))
    count = f"{len(means)} network{'s' * (len(means) > 1)}"
    how = f"x {math.exp(mean):.3g}, from {count} measured there (90 % interval: factor {math.exp(half):.3g} either way)"
    return Transfer(mean, half, how)


def by_proxy(
    rows: Sequence[LatencyRow],
    against: Reference,
    runtime: str,
    sized: Sequence[Sequence[LatencyRow]] = (),
    model: BoardModel | None = None,
) -> Transfer | None:
    """Estimate the transfer to `runtime` from float rows of one other runtime, or of itself.

    Outliers among the rows are left out, and named in `how`.

    Args:
        rows: rows of one runtime and thread count.
        against: the reference with the operators of the rows' networks.
        sized: rows of the device at several input sizes, one list per runtime, for the effect of the size.
        model: pooled figures of the boards; default the shipped ones.

    Returns:
        None if no row has a network with known operators, or nobody published both runtimes.
    """
    model = model or shipped_board_model()
    points = points_of(rows, against)
    if not points:
        return None
    proxy = rows[0].runtime
    fp16 = any(row.precision == "fp16" for row in rows)
    pooled = model.runtimes[proxy].in_arithmetic(fp16)
    points, outliers = without_outliers(points, pooled)
    fit = fit_board(points, pooled)
    if runtime_ratio(runtime, proxy, points[0].traits) is None:
        return None
    # The published pairs have fp16 arithmetic in ncnn and OpenVINO. Without it, half of their advantage over
    # onnxruntime is applied, and the interval reaches from none to all.
    share = 1.0 if fp16 or runtime != "onnxruntime" else 0.5
    by_model: dict[str, list[float]] = {}
    for point in points:
        by_model.setdefault(point.model, []).append(point.log)
    how = f"{fit.networks} networks with {proxy} (90 % interval: factor {math.exp(fit.half_width):.3g} either way)"
    if outliers:
        named = ", ".join(f"{one.model} at {one.img_size} px (x {one.factor:.2g} of the others)" for one in outliers)
        how += f", without outliers: {named}"
    found = Transfer(
        fit.intercept, fit.half_width, how, fit, {}, runtime, proxy, share, transformer_log=model.transformer_log
    )
    if "halvings" in fit.pooled.terms:  # the fit itself has the effect of the input size
        return found
    halving, half = board_halving(sized, against, model)
    own = {name: fmean(logs) for name, logs in by_model.items()}
    return replace(found, own=own, halving=halving, halving_half=half)


def corrected(found: Transfer, rows: Iterable[LatencyRow], against: Reference) -> Transfer | None:
    """Correct a transfer of `by_proxy` by rows of the device in the wanted runtime.

    The proxy's estimate counts as one more network, without a residual. The spread of the residuals is pooled with the
    interval that the proxy gave.

    Returns:
        None if no row has a convolutional network with known operators.
    """
    plain, residuals, halves = replace(found, own={}), dict[str, list[float]](), []
    for row in rows:
        known = against.prediction(row.model, row.img_size) if row.source != "estimated" else None
        if known and known.shares.transformer <= TRANSFORMER:
            factor = plain.factor(row.model, Traits(known.shares, known.p50_ms, row.img_size))
            residuals.setdefault(row.model, []).append(math.log(row.p50_ms / known.p50_ms) - factor.center)
            halves.append(factor.up)
    if not residuals:
        return None
    logs = [0.0, *map(fmean, residuals.values())]
    log, half = interval(logs, fmean(halves) / NORMAL_90)
    return replace(found, correction=Correction(log, half / math.sqrt(len(logs) + 1), half, len(residuals)))


def points_of(rows: Iterable[LatencyRow], against: Reference) -> list[Point]:
    """Return the rows of convolutional networks with known operators, against their predicted reference latency.

    Predicted latencies fit better than measured ones here (benchmarks/evaluate_transfer.py): the terms come from the
    same prediction.
    """
    points = []
    for row in rows:
        found = against.published(row.model, row.img_size)
        if found and found.shares.transformer <= TRANSFORMER:
            traits = Traits(found.shares, found.p50_ms, row.img_size)
            points.append(Point(row.model, traits, math.log(row.p50_ms / found.p50_ms)))
    return points


def board_halving(series: Iterable[Sequence[LatencyRow]], against: Reference, model: BoardModel) -> tuple[float, float]:
    """Return the change of the factor for each halving of the input size, and half of its 90 % interval.

    The board's own series, one per runtime, are averaged with the mean over all boards, which counts as one series.
    """
    own = []
    for rows in series:
        slope = size_slope(points_of(rows, against))
        if slope is not None:
            own.append(slope)
    mean = (model.halving + sum(own)) / (1 + len(own))
    half = t_quantile(model.halving_boards - 1) * model.halving_spread / math.sqrt(1 + len(own))
    return mean, half


def for_another_runtime(found: Transfer, runtime: str) -> Transfer:
    """Use a device's factor with onnxruntime for `runtime`, with a wider interval.

    The reference has its own latencies in both runtimes. That their ratio is the same on the device is an assumption.
    The interval is the spread of the ratio of two runtimes over networks on one board (`runtime_ratio`).
    """
    spread = spread_over_kinds()
    extra = t_quantile(spread.pairs - 1) * spread.half
    note = f"assumed for {runtime} within a factor of {math.exp(extra):.3g} either way"
    return replace(found, runtime_half=math.hypot(found.runtime_half, extra), how=f"{found.how}, {note}")


def by_facts(cpu: Cpu, threads: int, reference_cpu: Cpu, reference_threads: int) -> Transfer:
    """Estimate the transfer from the ratio of the arithmetic rates at the sustained clocks."""
    peak = math.log(_sustained_gmacs(reference_cpu, reference_threads) / _sustained_gmacs(cpu, threads))
    half = t_quantile(PEAK_BOARDS - 1) * PEAK_SPREAD * math.sqrt(1 + 1 / PEAK_BOARDS)
    how = (
        f"x {math.exp(peak + PEAK_LOG):.3g} by the processors' facts alone "
        f"(90 % interval: factor {math.exp(half):.3g} either way); "
        "the latency of any one student measured there narrows it"
    )
    return Transfer(peak + PEAK_LOG, half, how, evident=False)


def _sustained_gmacs(cpu: Cpu, threads: int) -> float:
    return cpu.peak_gmacs(threads) * cpu.frequency_ghz / (cpu.boost_ghz or cpu.frequency_ghz)


def interval(logs: list[float], usual: float = USUAL_SPREAD) -> tuple[float, float]:
    """Return the mean and the half width of the 90 % prediction interval for one more value.

    The spread is pooled with the `usual` one.
    """
    mean, count = fmean(logs), len(logs)
    squares = USUAL_NETWORKS * usual**2 + sum((value - mean) ** 2 for value in logs)
    degrees = USUAL_NETWORKS + count - 1
    return mean, t_quantile(degrees) * math.sqrt(squares / degrees * (1 + 1 / count))


def _logs(rows: Iterable[LatencyRow], against: Reference) -> dict[str, list[float]]:
    """Compute log(device / reference) by network, for rows of networks known on the reference."""
    logs: dict[str, list[float]] = {}
    for row in rows:
        if known := against.latency(row.model, row.img_size):
            logs.setdefault(row.model, []).append(math.log(row.p50_ms / known.p50_ms))
    return logs
