"""How much slower or faster a device is than the reference machine, and how sure that is.

By rows of the device: the mean of log(device / reference) over the networks known on both, with a 90 % prediction
interval for a network that is not among them. Few rows say little about the spread, so it is pooled with the one
seen on the boards that ncnn publishes. Without any row, by the processors' facts.

ncnn's published rows are another runtime's, so onnxruntime is put in by the only published pair: yolo11n on a
Raspberry Pi 5 takes 168.1 ms with onnxruntime and 88.0 ms with ncnn (Ultralytics, Raspberry Pi guide). ncnn
computes in fp16 there; on boards that cannot, the square root is taken. Either way the band holds "no difference".
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
# Spread of log(board / reference) over convolutional networks, and how many networks that knowledge counts as
# beside a board's own (benchmarks/evaluate_transfer.py).
USUAL_SPREAD, USUAL_NETWORKS = 0.26, 4
NCNN_TO_ONNXRUNTIME = 168.1 / 88.0
# That a device is behind the reference with OpenVINO as it is with onnxruntime: nobody published both, so the band
# holds a factor of two more either way. An assumption, not a measurement.
OTHER_RUNTIME_FACTOR = 2.0
# What the boards are slower than their peak arithmetic rate says, against the reference: geometric mean and spread
# of the logarithms (the same script).
PEAK_LOG, PEAK_SPREAD, PEAK_BOARDS = math.log(1.51), 0.86, 8
ANCHOR_PX = 224
SIZE_FACTOR_PER_HALVING = 1.25
# By how much the boards lag further behind in what only transformers do, geometric mean over ncnn's one transformer
# (the same script). How much of it is ncnn's own nobody published: half of it, in logarithms, is put in, the band
# reaches from none to all of it.
TRANSFORMER_LAG = math.log(4.5)


@dataclass(frozen=True)
class Factor:
    """log(device / reference): the center, and how far the interval reaches `down` and `up` from it."""

    center: float
    down: float
    up: float
    how: str


@dataclass(frozen=True)
class Transfer:
    """What the rows of a device with one thread count say against the reference, in logarithms.

    `own` holds log(device / reference) of the networks known on both. `runtime_log` and `runtime_half` put
    the runtime in that the rows are not of. `transformer_log` is how much further transformers may lag behind.
    `anchored` rows are all of 224 px. `how` says all this in words. `evident`: it rests on rows at all.
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
        """The factor for one student.

        Args:
            transformer_share: 0..1, see `cost_model.Prediction`.
            overhead: log of how much the reference takes at this size beyond what the area would let expect
                from 224 px, >= 0; a slow device may not have it.
        """
        kind = transformer_share * self.transformer_log / 2
        own = self.own.get(model)
        spread = math.hypot(self.half_width if own is None else 0.0, self.runtime_half)
        center = (self.mean if own is None else own) + self.runtime_log + (kind if own is None else 0.0)
        halvings = abs(math.log2(ANCHOR_PX / img_size)) if self.anchored else 0.0
        size = math.log(SIZE_FACTOR_PER_HALVING) * halvings
        down = math.hypot(spread, size, overhead if self.anchored else 0.0)
        how = self.how if own is None else f"x {math.exp(center):.3g}, as ncnn on this network, {self.runtime_how}"
        return Factor(center, down + kind, math.hypot(spread, size) + kind, how)


def by_rows(rows: Iterable[LatencyRow], against: Reference) -> Transfer | None:
    """From rows of the runtime in question, at any size; None if none is of a network known on the reference.

    Estimated rows do not count: they are somebody's transfer already.
    """
    logs = _logs((row for row in rows if row.source != "estimated"), against)
    if not logs:
        return None
    means = {model: fmean(values) for model, values in logs.items()}
    mean, half = interval(list(means.values()))
    count = f"{len(means)} network{'s' * (len(means) > 1)}"
    how = f"x {math.exp(mean):.3g}, as on {count} measured there (90 % interval x/: {math.exp(half):.3g})"
    return Transfer(mean, half, how)


def by_ncnn(rows: Sequence[LatencyRow], against: Reference) -> Transfer | None:
    """From ncnn's published rows; None if there are none of networks known on the reference."""
    anchors = [row for row in rows if row.img_size == ANCHOR_PX]
    own = {model: fmean(values) for model, values in _logs(anchors, against).items()}
    if not own:
        return None
    mean, half = interval(list(own.values()))
    runtime, fp16 = math.log(NCNN_TO_ONNXRUNTIME), all(row.precision == "fp16" for row in rows)
    applied = runtime if fp16 else runtime / 2
    runtime_how = f"of it x {math.exp(applied):.3g} for onnxruntime instead of ncnn"
    how = (
        f"x {math.exp(mean + applied):.3g}, as ncnn on {len(own)} networks (90 % interval x/: {math.exp(half):.3g}), "
        f"{runtime_how}"
    )
    return Transfer(mean, half, how, runtime_how, own, applied, runtime / 2, TRANSFORMER_LAG, anchored=True)


def for_another_runtime(found: Transfer, runtime: str) -> Transfer:
    """A device's factor with onnxruntime, taken for that of `runtime`, with a wider band."""
    half = math.hypot(found.runtime_half, math.log(OTHER_RUNTIME_FACTOR))
    note = f"taken for {runtime} within x/: {OTHER_RUNTIME_FACTOR:g}"
    runtime_how = f"{found.runtime_how}, {note}" if found.runtime_how else note
    return replace(found, runtime_half=half, how=f"{found.how}, {note}", runtime_how=runtime_how)


def by_facts(cpu: Cpu, threads: int, reference_cpu: Cpu, reference_threads: int) -> Transfer:
    """From the arithmetic rates at the sustained clocks alone."""
    peak = math.log(_sustained_gmacs(reference_cpu, reference_threads) / _sustained_gmacs(cpu, threads))
    half = _t_quantile(PEAK_BOARDS - 1) * PEAK_SPREAD * math.sqrt(1 + 1 / PEAK_BOARDS)
    how = (
        f"x {math.exp(peak + PEAK_LOG):.3g} by the processors' facts alone (90 % interval x/: {math.exp(half):.3g}); "
        "the latency of any one student measured there narrows it"
    )
    return Transfer(peak + PEAK_LOG, half, how, evident=False)


def _sustained_gmacs(cpu: Cpu, threads: int) -> float:
    return cpu.peak_gmacs(threads) * cpu.frequency_ghz / (cpu.boost_ghz or cpu.frequency_ghz)


def interval(logs: list[float]) -> tuple[float, float]:
    """Mean, and half width of the 90 % prediction interval for one more value; the spread is pooled."""
    mean, count = fmean(logs), len(logs)
    squares = USUAL_NETWORKS * USUAL_SPREAD**2 + sum((value - mean) ** 2 for value in logs)
    degrees = USUAL_NETWORKS + count - 1
    return mean, _t_quantile(degrees) * math.sqrt(squares / degrees * (1 + 1 / count))


def _t_quantile(degrees: int) -> float:
    """Upper 5 % point of Student's t."""
    from scipy.special import stdtrit  # here: choosing a student must not wait for scipy's import

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def _logs(rows: Iterable[LatencyRow], against: Reference) -> dict[str, list[float]]:
    """log(device / reference) by network, for the rows that the reference knows."""
    logs: dict[str, list[float]] = {}
    for row in rows:
        if known := against.latency(row.model, row.img_size):
            logs.setdefault(row.model, []).append(math.log(row.p50_ms / known.p50_ms))
    return logs
