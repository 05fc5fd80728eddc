"""Latency factor of a device relative to the reference machine, with its uncertainty.

With rows of the device, the factor is the mean of log(device / reference) over the networks known on both. It has a
90 % prediction interval for another network. Few rows determine the spread poorly, so it is pooled with the spread on
the boards with published ncnn latencies. Without rows, the factor follows from the processors' facts.

ncnn's published rows need a conversion to onnxruntime, from the only published pair: yolo11n on a Raspberry Pi 5
takes 168.1 ms with onnxruntime and 88.0 ms with ncnn (Ultralytics, Raspberry Pi guide). This ncnn latency is with
fp16 arithmetic; the square root of the factor is used for boards without. The interval includes equal runtimes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from tcs_edge.latency.reference import Reference
from tcs_edge.specs.profile import LatencyRow
from tcs_edge.specs.target import Cpu

CONFIDENCE = 0.90
# Usual spread of log(board / reference) over convolutional networks, and its weight as a number of networks when it is
# pooled with a board's own rows (benchmarks/evaluate_transfer.py).
USUAL_SPREAD, USUAL_NETWORKS = 0.26, 4
NCNN_TO_ONNXRUNTIME = 168.1 / 88.0
# Additional interval if onnxruntime's factor is used for OpenVINO, as a factor either way. There are no published
# latencies of both on one device, so this is an assumption and not a measurement.
OTHER_RUNTIME_FACTOR = 2.0
# Slowdown of the boards beyond the ratio of the peak arithmetic rates: geometric mean, spread of the logarithms, and
# number of boards (the same script).
PEAK_LOG, PEAK_SPREAD, PEAK_BOARDS = math.log(1.51), 0.86, 8
ANCHOR_PX = 224
SIZE_FACTOR_PER_HALVING = 1.25
# Additional slowdown of the boards for transformers, as a geometric mean over ncnn's only transformer (the same
# script). ncnn's own part of it is unknown: half of it, in logarithms, is applied, and the interval reaches from none
# to all of it.
TRANSFORMER_LAG = math.log(4.5)


@dataclass(frozen=True)
class Factor:
    """Factor log(device / reference): its center, and the distances `down` and `up` to the ends of its interval."""

    center: float
    down: float
    up: float
    how: str


@dataclass(frozen=True)
class Transfer:
    """Factor of a device relative to the reference for one thread count, in logarithms.

    `mean` and `half_width` describe the factor of a network without rows. `own` holds log(device / reference) of the
    networks known on both. `runtime_log` and `runtime_half` convert from the runtime of the rows, with half the width
    of its interval. `transformer_log` is the additional slowdown of transformers. `anchored` is True if all rows are
    of 224 px images. `how` describes the derivation in words. `evident` is True if the factor is based on rows.
    """

    mean: float
    half_width: float
    how: str
    runtime_how: str = ""
    own: Mapping[str, float] = field(default_factory=dict)
    runtime_log: float = 0.0
    runtime_half: float = 0.0
    transformer_log: float = 0.0
    anchored: bool = False
    evident: bool = True

    def factor(self, model: str, img_size: int, transformer_share: float, overhead: float) -> Factor:
        """Compute the factor for one student.

        Args:
            transformer_share: 0..1, see `cost_model.Prediction`.
            overhead: log of the reference's latency at this size, relative to its latency at 224 px scaled by the
                area, >= 0; a slow device may not have this overhead.
        """
        kind = transformer_share * self.transformer_log / 2
        own = self.own.get(model)
        spread = math.hypot(self.half_width if own is None else 0.0, self.runtime_half)
        center = (self.mean if own is None else own) + self.runtime_log + (kind if own is None else 0.0)
        halvings = abs(math.log2(ANCHOR_PX / img_size)) if self.anchored else 0.0
        size = math.log(SIZE_FACTOR_PER_HALVING) * halvings
        down = math.hypot(spread, size, overhead if self.anchored else 0.0)
        how = self.how if own is None else f"x {math.exp(center):.3g}, from this network with ncnn, {self.runtime_how}"
        return Factor(center, down + kind, math.hypot(spread, size) + kind, how)


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


def by_ncnn(rows: Sequence[LatencyRow], against: Reference) -> Transfer | None:
    """Estimate the transfer from ncnn's published rows; None if no row has a network known on the reference."""
    anchors = [row for row in rows if row.img_size == ANCHOR_PX]
    own = {model: fmean(values) for model, values in _logs(anchors, against).items()}
    if not own:
        return None
    mean, half = interval(list(own.values()))
    runtime, fp16 = math.log(NCNN_TO_ONNXRUNTIME), all(row.precision == "fp16" for row in rows)
    applied = runtime if fp16 else runtime / 2
    runtime_how = f"including x {math.exp(applied):.3g} for onnxruntime instead of ncnn"
    how = (
        f"x {math.exp(mean + applied):.3g}, from {len(own)} networks with ncnn "
        f"(90 % interval: factor {math.exp(half):.3g} either way), {runtime_how}"
    )
    return Transfer(mean, half, how, runtime_how, own, applied, runtime / 2, TRANSFORMER_LAG, anchored=True)


def for_another_runtime(found: Transfer, runtime: str) -> Transfer:
    """Use a device's factor with onnxruntime for `runtime`, with a wider interval."""
    half = math.hypot(found.runtime_half, math.log(OTHER_RUNTIME_FACTOR))
    note = f"assumed for {runtime} within a factor of {OTHER_RUNTIME_FACTOR:g} either way"
    runtime_how = f"{found.runtime_how}, {note}" if found.runtime_how else note
    return replace(found, runtime_half=half, how=f"{found.how}, {note}", runtime_how=runtime_how)


def by_facts(cpu: Cpu, threads: int, reference_cpu: Cpu, reference_threads: int) -> Transfer:
    """Estimate the transfer from the ratio of the arithmetic rates at the sustained clocks."""
    peak = math.log(_sustained_gmacs(reference_cpu, reference_threads) / _sustained_gmacs(cpu, threads))
    half = _t_quantile(PEAK_BOARDS - 1) * PEAK_SPREAD * math.sqrt(1 + 1 / PEAK_BOARDS)
    how = (
        f"x {math.exp(peak + PEAK_LOG):.3g} by the processors' facts alone "
        f"(90 % interval: factor {math.exp(half):.3g} either way); "
        "the latency of any one student measured there narrows it"
    )
    return Transfer(peak + PEAK_LOG, half, how, evident=False)


def _sustained_gmacs(cpu: Cpu, threads: int) -> float:
    return cpu.peak_gmacs(threads) * cpu.frequency_ghz / (cpu.boost_ghz or cpu.frequency_ghz)


def interval(logs: list[float]) -> tuple[float, float]:
    """Return the mean and the half width of the 90 % prediction interval for one more value.

    The spread is pooled with `USUAL_SPREAD`.
    """
    mean, count = fmean(logs), len(logs)
    squares = USUAL_NETWORKS * USUAL_SPREAD**2 + sum((value - mean) ** 2 for value in logs)
    degrees = USUAL_NETWORKS + count - 1
    return mean, _t_quantile(degrees) * math.sqrt(squares / degrees * (1 + 1 / count))


def _t_quantile(degrees: int) -> float:
    """Upper 5 % point of Student's t."""
    from scipy.special import stdtrit  # imported here, so that the choice of a student does not wait for it

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def _logs(rows: Iterable[LatencyRow], against: Reference) -> dict[str, list[float]]:
    """Compute log(device / reference) by network, for rows of networks known on the reference."""
    logs: dict[str, list[float]] = {}
    for row in rows:
        if known := against.latency(row.model, row.img_size):
            logs.setdefault(row.model, []).append(math.log(row.p50_ms / known.p50_ms))
    return logs
