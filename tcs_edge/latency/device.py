"""Latency of a student on a target: measured rows of the device, else an estimate from the reference machine."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from tcs_edge.errors import UsageError
from tcs_edge.latency.board import Traits
from tcs_edge.latency.cost_model import Tables
from tcs_edge.latency.evidence import REFERENCE_RUNTIMES, Evidence, with_threads
from tcs_edge.latency.plausibility import candidate_macs_m, roofline_ms
from tcs_edge.latency.precision import Int8Ratio, int8_ratio
from tcs_edge.latency.reference import Estimate, Reference, reference
from tcs_edge.latency.transfer import Transfer
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.machine import RecordedMachine, latency_origin
from tcs_edge.specs.profile import LatencyRow, Profile, ProfileRuntime, Source
from tcs_edge.specs.target import RuntimeName, TargetSpec

_MEASURE = "Measure one (`tcs-edge profile` there, or `tcs-edge measure --ssh` from here)."


@dataclass(frozen=True)
class Latency:
    """Latency of one image in ms: median `p50_ms` and 90 % interval [`low_ms`, `high_ms`].

    `threads` is the thread count of the figure. `source` is its kind, and `citation` its origin. `device` and
    `architecture` name the machine of a measured latency. It holds for `runtime` and `precision`.
    """

    p50_ms: float
    low_ms: float
    high_ms: float
    threads: int
    source: Source
    citation: str
    device: str | None = None
    architecture: str | None = None
    runtime: ProfileRuntime = "onnxruntime"
    precision: Precision = "fp32"

    @property
    def machine(self) -> RecordedMachine:
        """Machine of a measured latency."""
        return RecordedMachine(self.device, self.architecture)

    @property
    def origin(self) -> str:
        """The source, with the machine of a measurement."""
        return latency_origin(self.source, self.machine)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.p50_ms:.3g} ms (up to {self.high_ms:.3g} ms, {self.source})"


@dataclass(frozen=True)
class DeviceLatencies:
    """Latencies on one target for one runtime, precision and thread count; see `device_latencies`.

    `rows` are the device's own rows. `transfer` converts latencies of the reference machine to the device;
    it is None if the device is the reference machine. For a precision without rows, `plain` has the latencies in fp32.
    int8 is faster by `int8`; fp16 stores the weights, and computes as fp32 does.
    """

    target: TargetSpec
    profile: Profile
    runtime: ProfileRuntime
    precision: Precision
    rows: tuple[LatencyRow, ...]
    threads: int
    reference: Reference
    transfer: Transfer | None
    plain: DeviceLatencies | None = None
    int8: Int8Ratio | None = None

    def latency(self, model: str, img_size: int) -> Latency:
        """Latency of `model` for one img_size x img_size image.

        A tag of weights behind a dot does not change the latency. A row of this model and size is returned
        unchanged. Rows of the model at other sizes correct the estimate from the reference machine. No estimate
        is below the bound of the processor's peak rate.

        Raises:
            UsageError: neither the profile nor the reference machine has data on the model at this size.
        """
        model = model.partition(".")[0]
        if self.plain:
            return self._from_plain(self.plain.latency(model, img_size), model, img_size)
        expected = self._expected(model, img_size)
        own = self._own_rows(model, known=expected is not None)
        found = self.reference.corrected(own, model, img_size) or expected
        if found is None:
            raise UsageError(self._unknown(model, img_size))
        if found.exact:
            return self._of_row(found.exact)
        estimate = self._estimated(found.p50_ms, found.low_ms, found.high_ms, found.how)
        return self._above_roofline(estimate, model, img_size)

    def _estimated(self, p50_ms: float, low_ms: float, high_ms: float, how: str) -> Latency:
        return Latency(
            p50_ms, low_ms, high_ms, self.threads, "estimated", how, runtime=self.runtime, precision=self.precision
        )

    def _from_plain(self, plain: Latency, model: str, img_size: int) -> Latency:
        """Estimate the latency of another precision from that in fp32."""
        if self.int8 is None:
            citation = f"{plain.citation}; {self.precision} stores the weights, computed like fp32"
            return replace(plain, citation=citation, precision=self.precision)
        p50_ms = plain.p50_ms * math.exp(self.int8.log)
        down = math.hypot(math.log(plain.p50_ms / plain.low_ms), self.int8.half)
        up = math.hypot(math.log(plain.high_ms / plain.p50_ms), self.int8.half)
        citation = f"{plain.citation}; {self.int8.how}"
        low_ms, high_ms = p50_ms * math.exp(-down), p50_ms * math.exp(up)
        found = self._estimated(p50_ms, low_ms, high_ms, citation)
        return self._above_roofline(found, model, img_size)

    def _of_row(self, row: LatencyRow) -> Latency:
        citation = self.profile.citations.get(row.citation, row.citation)
        measured = row.source == "measured"
        machine = row.measured_with(self.profile.machine) if measured else RecordedMachine()
        return Latency(
            row.p50_ms, row.low_ms, row.high_ms, row.threads, row.source, citation, machine.device,
            machine.architecture, row.runtime, row.precision,
        )  # fmt: skip

    def _above_roofline(self, found: Latency, model: str, img_size: int) -> Latency:
        """Raise the lower end of the estimate, and if necessary all of it, to the roofline bound."""
        macs_m, cpu = self._macs_m(model, img_size), self.target.cpu
        least = roofline_ms(macs_m, cpu, self.threads, self.precision, self.runtime) if macs_m else 0.0
        if found.low_ms >= least:
            return found
        p50_ms = max(found.p50_ms, least)
        reason = (
            f"lower bound {least:.3g} ms: {macs_m:.3g} M multiply-accumulates at the peak rate of "
            f"{min(self.threads, cpu.cores)} x {cpu.model}"
        )
        # The upper end rises with the median, since the estimate came from another way to compute.
        high_ms = found.high_ms * p50_ms / found.p50_ms
        return replace(found, p50_ms=p50_ms, low_ms=least, high_ms=high_ms, citation=f"{found.citation}; {reason}")

    def _macs_m(self, model: str, img_size: int) -> float | None:
        if candidate := CANDIDATES.get(model):
            return candidate_macs_m(candidate, img_size)
        counted = self.reference.model
        return counted.macs_m(model, img_size) if counted.knows(model, img_size) else None

    def _own_rows(self, model: str, known: bool) -> list[LatencyRow]:
        """Return the device's rows of this model; estimated rows only if there is no better source."""
        rows = [row for row in self.rows if row.model.partition(".")[0] == model]
        better = [row for row in rows if row.source != "estimated"]
        evident = known and self.transfer is not None and self.transfer.evident
        return better if better or evident else rows

    def _expected(self, model: str, img_size: int) -> Estimate | None:
        """Estimate the latency from the reference machine, without the device's own rows of this model."""
        known = self.reference.latency(model, img_size)
        if known is None or self.transfer is None:
            return known
        predicted = self.reference.prediction(model, img_size)
        # The terms of another runtime's rows belong to the predicted latency (`transfer.points_of`).
        if predicted and self.transfer.fit:
            how = f"predicted: {self.reference.model.citation}"
            known = Estimate(predicted.p50_ms, predicted.p50_ms, predicted.p50_ms, how, None, predicted.shares)
        factor = self.transfer.factor(model, Traits(known.shares, known.p50_ms, img_size))
        low, high = math.log(known.low_ms / known.p50_ms), math.log(known.high_ms / known.p50_ms)
        p50 = known.p50_ms * math.exp(factor.center)
        return Estimate(
            p50,
            p50 * math.exp(-math.hypot(low, factor.down)),
            p50 * math.exp(math.hypot(high, factor.up)),
            f"{self.reference.model.reference} ({known.how}) {factor.how}",
        )

    def _unknown(self, model: str, img_size: int) -> str:
        sizes = sorted(
            {row.img_size for row in self.rows if row.model == model} | set(self.reference.model.sizes(model))
        )
        if not sizes:
            return (
                f"no latency data for {model} on {self.profile.target}. "
                "Measure it (`tcs-edge profile` there, `tcs-edge measure --ssh` from here), or pass another --student."
            )
        return (
            f"the latency of {model} on {self.profile.target} is known from {sizes[0]} to {sizes[-1]} px, not at "
            f"{img_size} px. Choose an --img-size in this range."
        )


def device_latencies(
    target: TargetSpec,
    profile: Profile,
    threads: int | None = None,
    runtime: ProfileRuntime = "onnxruntime",
    precision: Precision = "fp32",
    tables: Tables | None = None,
) -> DeviceLatencies:
    """Collect the latency data for students on `target`.

    Args:
        threads: default the target's own. A count without rows falls back to the next lower count with rows,
            which overestimates the latency.
        tables: operator features of networks that are not in the shipped tables.

    Raises:
        UsageError: the profile has no row with this runtime and precision, and they cannot be estimated: int8 without
            published pairs, or a runtime without published latencies on the device.
    """
    wanted = threads or target.threads
    rows = _as_deployed(target, profile, runtime, precision, wanted)
    if not rows and precision != "fp32":
        return _another_precision(target, profile, wanted, runtime, precision, tables)
    evidence = Evidence(target, profile, runtime, rows, wanted)
    if evidence.empty:
        raise UsageError(
            f"the profile of {profile.target} has no row with {runtime} in {precision} and at most {wanted} "
            f"threads. {_MEASURE}"
        )
    count = evidence.threads
    known: RuntimeName = "openvino" if runtime == "openvino" and precision == "fp32" else "onnxruntime"
    against, plain = (reference(count, name).with_tables(tables or {}) for name in (known, "onnxruntime"))
    transfer = None
    if runtime not in REFERENCE_RUNTIMES or precision != "fp32" or profile.target != against.model.reference:
        transfer, against = evidence.transfer(against, plain)
    return DeviceLatencies(target, profile, runtime, precision, tuple(rows), count, against, transfer)


def _as_deployed(
    target: TargetSpec, profile: Profile, runtime: ProfileRuntime, precision: Precision, threads: int
) -> list[LatencyRow]:
    """Return the rows in the arithmetic that a model file in `precision` has on the target.

    OpenVINO computes fp32 files in float16 by default on Arm processors with such arithmetic.
    """
    in_fp16 = runtime == "openvino" and precision == "fp32" and target.cpu.openvino_in_float16
    halves = with_threads(profile, runtime, "fp16", threads) if in_fp16 else []
    return halves or with_threads(profile, runtime, precision, threads)


def _another_precision(
    target: TargetSpec,
    profile: Profile,
    threads: int,
    runtime: ProfileRuntime,
    precision: Precision,
    tables: Tables | None,
) -> DeviceLatencies:
    """Return latencies in a precision without rows, from those in fp32."""
    plain = device_latencies(target, profile, threads, runtime, "fp32", tables)
    ratio = int8_ratio(profile, target.cpu, runtime, threads) if precision == "int8" else None
    if precision == "int8" and ratio is None:
        raise UsageError(
            f"the profile of {profile.target} has no row with {runtime} in int8, and nobody published int8 beside "
            f"float on such a processor. {_MEASURE}"
        )
    return replace(plain, precision=precision, rows=(), plain=plain, int8=ratio)
