"""Latency of a student on the reference machine: measured, predicted, or predicted and corrected by measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from tcs_edge.latency.cost_model import CostModel, Prediction, Shares, Tables, shipped_cost_model
from tcs_edge.specs.profile import LatencyRow, Profile, load_profile
from tcs_edge.specs.target import RuntimeName

# Interval of a power law between two sizes of a model without counted operators. In a test with 20 points left out of
# the measured curves (rows 64 px apart), 19 were within a factor of 1.12.
POWER_LAW_FACTOR = 1.15


@dataclass(frozen=True)
class Estimate:
    """Latency in ms with a 90 % interval and its derivation; `shares` are those of the network on the reference."""

    p50_ms: float
    low_ms: float
    high_ms: float
    how: str
    exact: LatencyRow | None = None
    shares: Shares = field(default_factory=Shares)


@dataclass(frozen=True)
class Reference:
    """Latency data of the reference machine for one runtime and thread count."""

    model: CostModel
    rows: tuple[LatencyRow, ...]
    threads: int

    def with_tables(self, tables: Tables) -> Reference:
        """Return this reference with the operator features of more networks."""
        return replace(self, model=self.model.with_tables(tables))

    def latency(self, name: str, img_size: int) -> Estimate | None:
        """Latency of a student on the reference machine; None if neither a row nor its operators are known."""
        predicted = self.prediction(name, img_size)
        shares = predicted.shares if predicted else Shares()
        own = [row for row in self.rows if row.model == name]
        if found := self.corrected(own, name, img_size):
            return replace(found, shares=shares)
        if predicted is None:
            return None
        how = f"predicted: {self.model.citation}"
        return Estimate(predicted.p50_ms, predicted.low_ms, predicted.high_ms, how, None, shares)

    def prediction(self, name: str, img_size: int) -> Prediction | None:
        """Predict the latency with the cost model, without measured rows; None if the operators are unknown."""
        known = self.model.knows(name, img_size)
        return self.model.predict(name, img_size, self.threads) if known else None

    def published(self, name: str, img_size: int) -> Prediction | None:
        """Predict the latency with ImageNet's classes, as in published tables; None if the operators are unknown."""
        known = self.model.knows(name, img_size)
        return self.model.predict_published(name, img_size, self.threads) if known else None

    def corrected(self, rows: Sequence[LatencyRow], name: str, img_size: int) -> Estimate | None:
        """Estimate the latency from rows of this student on one machine, interpolated with the cost model."""
        if not self.model.knows(name, img_size):
            return from_own_rows(rows, img_size, None, POWER_LAW_FACTOR)
        known = [row for row in rows if self.model.knows(name, row.img_size)]

        def predicted_ms(size: int) -> float:
            return self.model.predict(name, size, self.threads).p50_ms

        return from_own_rows(known, img_size, predicted_ms, self.model.own_rows_factor)


@cache
def reference(threads: int, runtime: RuntimeName = "onnxruntime") -> Reference:
    """Load the shipped reference machine, with the largest measured thread count up to `threads`."""
    model = shipped_cost_model(runtime)
    count = max(known for known in model.threads if known <= threads)
    profile = load_profile(model.reference)
    return Reference(model, tuple(rows_of(profile, runtime, "fp32", count)), count)


def rows_of(profile: Profile, runtime: str, precision: str, threads: int) -> list[LatencyRow]:
    """Select the rows of one runtime, precision and thread count for batch size 1, by ascending image size."""
    wanted = (runtime, precision, threads, 1)
    rows = [row for row in profile.rows if (row.runtime, row.precision, row.threads, row.batch) == wanted]
    return sorted(rows, key=lambda row: row.img_size)


def from_own_rows(
    rows: Sequence[LatencyRow], img_size: int, base: Callable[[int], float] | None, factor: float
) -> Estimate | None:
    """Estimate the latency at `img_size` from rows of the same student, sorted by size; None if impossible.

    A row of this size is returned unchanged. Otherwise `base`, ms as a function of the size, is multiplied by a
    correction row / base. Between two rows the correction is interpolated in logarithms; beyond them the nearest
    one is used. Without a base the latency follows a power of the size, and beyond the rows there is no estimate.

    Args:
        factor: interval of an interpolated latency, as a factor; beyond the rows it is squared. It is combined with
            the intervals of the rows, as a root of summed squares of logarithms.
    """
    for row in rows:
        if row.img_size == img_size:
            return Estimate(row.p50_ms, row.low_ms, row.high_ms, row.source, row)
    below = [row for row in rows if row.img_size < img_size]
    above = [row for row in rows if row.img_size > img_size]
    near, inside = [*below[-1:], *above[:1]], bool(below and above)
    if not near or (base is None and not inside):
        return None
    at = base or (lambda size: 1.0)
    logs = [math.log(row.p50_ms / at(row.img_size)) for row in near]
    p50 = at(img_size) * math.exp(_weighted(logs, near, img_size))
    widened = math.log(factor) * (1 if inside else 2)
    down = math.hypot(widened, max(math.log(row.p50_ms / row.low_ms) for row in near))
    up = math.hypot(widened, max(math.log(row.high_ms / row.p50_ms) for row in near))
    sizes = " and ".join(str(row.img_size) for row in near)
    how = f"from its {near[0].source} latency at {sizes} px"
    return Estimate(p50, p50 * math.exp(-down), p50 * math.exp(up), how)


def _weighted(logs: Sequence[float], near: Sequence[LatencyRow], img_size: int) -> float:
    """Interpolate between two rows at `img_size`, linearly in the logarithm of the size; return a single value."""
    if len(near) == 1:
        return logs[0]
    small, large = near
    share = math.log(img_size / small.img_size) / math.log(large.img_size / small.img_size)
    return (1 - share) * logs[0] + share * logs[1]
