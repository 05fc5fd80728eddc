"""The latency of a student on a target: its own rows first, then what the reference machine lets expect."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tcs_edge.errors import UsageError
from tcs_edge.specs.profile import LatencyRow, Profile, ProfileRuntime, Source
from tcs_edge.specs.target import Precision, TargetSpec, load_target
from tcs_edge.students.reference import Estimate, Reference, reference, rows_of
from tcs_edge.students.transfer import ANCHOR_PX, Transfer, by_facts, by_ncnn, by_rows


@dataclass(frozen=True)
class Latency:
    """The latency of one image in ms: median and the band it is believed to lie in.

    `threads` is the thread count the figure is for; `source` says how it is known, `citation` from where.
    """

    p50_ms: float
    low_ms: float
    high_ms: float
    threads: int
    source: Source
    citation: str

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.p50_ms:.3g} ms (up to {self.high_ms:.3g} ms, {self.source})"


@dataclass(frozen=True)
class DeviceLatencies:
    """Answers for one target, runtime, precision and thread count; see `device_latencies`.

    `rows` are the device's own, `transfer` leads from the reference machine to it (None: the device is the
    reference machine).
    """

    profile: Profile
    rows: tuple[LatencyRow, ...]
    threads: int
    reference: Reference
    transfer: Transfer | None

    def latency(self, model: str, img_size: int) -> Latency:
        """Latency of `model` for one img_size x img_size image.

        A row of this model and size is taken as it stands; its rows at other sizes correct what is expected
        from the reference machine.

        Raises:
            UsageError: neither the profile nor the reference machine knows the model at this size.
        """
        expected = self._expected(model, img_size)
        own = self._own_rows(model, known=expected is not None)
        found = self.reference.corrected(own, model, img_size) or expected
        if found is None:
            raise UsageError(self._unknown(model, img_size))
        if found.exact:
            row = found.exact
            citation = self.profile.citations.get(row.citation, row.citation)
            return Latency(row.p50_ms, row.low_ms, row.high_ms, row.threads, row.source, citation)
        return Latency(found.p50_ms, found.low_ms, found.high_ms, self.threads, "estimated", found.how)

    def _own_rows(self, model: str, known: bool) -> list[LatencyRow]:
        """The device's rows of this model; estimated ones only where nothing better is to be had."""
        rows = [row for row in self.rows if row.model == model]
        better = [row for row in rows if row.source != "estimated"]
        evident = known and self.transfer is not None and self.transfer.evident
        return better if better or evident else rows

    def _expected(self, model: str, img_size: int) -> Estimate | None:
        """What the reference machine lets expect here; nothing of the device's own rows of this model is used."""
        known = self.reference.latency(model, img_size)
        if known is None or self.transfer is None:
            return known
        factor = self.transfer.factor(model, img_size, known.transformer_share, self._overhead(model, img_size))
        low, high = math.log(known.low_ms / known.p50_ms), math.log(known.high_ms / known.p50_ms)
        p50 = known.p50_ms * math.exp(factor.centre)
        return Estimate(
            p50,
            p50 * math.exp(-math.hypot(low, factor.down)),
            p50 * math.exp(math.hypot(high, factor.up)),
            f"{self.reference.model.reference} ({known.how}) {factor.how}",
        )

    def _overhead(self, model: str, img_size: int) -> float:
        """Log of what the reference takes beyond the share of the area that a smaller image has."""
        here, full = (self.reference.latency(model, size) for size in (img_size, ANCHOR_PX))
        if here is None or full is None:
            return 0.0
        return max(0.0, 2 * math.log(ANCHOR_PX / img_size) - math.log(full.p50_ms / here.p50_ms))

    def _unknown(self, model: str, img_size: int) -> str:
        sizes = sorted({row.img_size for row in self.rows if row.model == model} | set(self._counted(model)))
        if not sizes:
            return (
                f"nothing is known of the latency of {model} on {self.profile.target}. "
                "Measure it (`tcs-edge profile` there, or `tcs-edge bundle-profiler`), or choose another --student."
            )
        return (
            f"the latency of {model} on {self.profile.target} is known at {sizes[0]} to {sizes[-1]} px, not at "
            f"{img_size} px. Choose an --img-size in between."
        )

    def _counted(self, model: str) -> list[int]:
        return list(self.reference.model.tables.get(model, {}))


def device_latencies(
    target: TargetSpec,
    profile: Profile,
    threads: int | None = None,
    runtime: ProfileRuntime = "onnxruntime",
    precision: Precision = "fp32",
) -> DeviceLatencies:
    """What is known of students' latencies on `target`.

    Args:
        threads: default the target's own. A count without rows falls back to the next lower one that has some,
            which is slower and thus on the safe side.

    Raises:
        UsageError: another runtime or precision than onnxruntime in fp32, and the profile has no row of it.
    """
    wanted = threads or target.threads
    rows = _with_threads(profile, runtime, precision, wanted)
    proxies = _with_threads(profile, "ncnn", "fp16", wanted) or _with_threads(profile, "ncnn", "fp32", wanted)
    default = (runtime, precision) == ("onnxruntime", "fp32")
    if not (rows or default):
        raise UsageError(
            f"the profile of {profile.target} has no row with {runtime} in {precision} and {wanted} threads or "
            "fewer. Measure one (`tcs-edge profile` there, or `tcs-edge bundle-profiler`)."
        )
    used = rows or proxies
    count = used[0].threads if used else wanted
    against = reference(count)
    if default and profile.target == against.model.reference:
        return DeviceLatencies(profile, tuple(rows), count, against, None)
    transfer = by_rows(rows, against) or by_ncnn(proxies, against) or _by_facts(target, count, against)
    return DeviceLatencies(profile, tuple(rows), count, against, transfer)


def _by_facts(target: TargetSpec, threads: int, against: Reference) -> Transfer:
    return by_facts(target.cpu, threads, load_target(against.model.reference).cpu, against.threads)


def _with_threads(
    profile: Profile, runtime: Literal["onnxruntime", "openvino", "ncnn"], precision: Precision, threads: int
) -> list[LatencyRow]:
    """Rows of the highest thread count up to `threads` that has any."""
    counts = {row.threads for row in profile.rows if (row.runtime, row.precision) == (runtime, precision)}
    usable = [count for count in counts if count <= threads]
    return rows_of(profile, runtime, precision, max(usable)) if usable else []
