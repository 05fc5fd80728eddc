"""Choose the evidence for a device's factor: rows in the runtime itself, rows of other runtimes, or its facts."""

from __future__ import annotations

from collections.abc import Sequence

from tcs_edge.latency.reference import Reference, rows_of
from tcs_edge.latency.transfer import Transfer, by_facts, by_proxy, by_rows, corrected, for_another_runtime
from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.profile import LatencyRow, Profile, ProfileRuntime
from tcs_edge.specs.target import TargetSpec, load_target

# Runtimes with latencies on the reference machine; runtimes whose rows stand for another one; runtimes with rows at
# several input sizes.
REFERENCE_RUNTIMES = ("onnxruntime", "openvino")
PROXY_RUNTIMES: tuple[ProfileRuntime, ...] = ("ncnn", "tflite")
SIZED_RUNTIMES: tuple[ProfileRuntime, ...] = ("tflite", "armnn")


class Evidence:
    """Rows on a device with which to estimate latencies in one runtime.

    `rows` are those in the runtime itself. `proxies` are onnxruntime's rows, for another runtime, and then float rows
    of ncnn and TFLite.
    """

    def __init__(
        self, target: TargetSpec, profile: Profile, runtime: ProfileRuntime, rows: Sequence[LatencyRow], threads: int
    ) -> None:
        self.target, self.runtime, self.rows, self._wanted = target, runtime, rows, threads

        def floats(name: ProfileRuntime) -> list[LatencyRow]:
            return with_threads(profile, name, "fp16", threads) or with_threads(profile, name, "fp32", threads)

        self.onnxruntime = [] if runtime == "onnxruntime" else with_threads(profile, "onnxruntime", "fp32", threads)
        self.others = [rows for name in PROXY_RUNTIMES if (rows := floats(name))]
        self.sized = [rows for name in SIZED_RUNTIMES if (rows := floats(name))]
        self.proxies = [rows for rows in (self.onnxruntime, *self.others) if rows]

    @property
    def empty(self) -> bool:
        """True if the runtime cannot be estimated here."""
        return not self.rows and self.runtime not in REFERENCE_RUNTIMES and not self.others

    @property
    def threads(self) -> int:
        """Thread count of the best rows; without rows the wanted one."""
        return next((found[0].threads for found in (self.rows, *self.proxies) if found), self._wanted)

    def transfer(self, own: Reference, plain: Reference) -> tuple[Transfer, Reference]:
        """Estimate the transfer, and return the reference that it is relative to.

        Args:
            own: the reference machine in the wanted runtime.
            plain: the same with onnxruntime, the base of other runtimes' rows.
        """
        measured, proxied = by_rows(self.rows, own), self._by_proxies(plain)
        if measured is None:
            return (proxied, plain) if proxied else (self._without_rows(own, plain), own)
        better = corrected(proxied, self.rows, plain) if proxied and self._comparable else None
        if better and better.correction and better.correction.half < measured.half_width:
            return better, plain
        return measured, own

    @property
    def _comparable(self) -> bool:
        """True if all rows have one thread count, and the own ones are float."""
        counts = {row.threads for rows in (self.rows, *self.others) for row in rows}
        return counts == {self.threads} and all(row.precision != "int8" for row in self.rows)

    @property
    def _by_reference(self) -> bool:
        """True if the reference machine has the ratio of the runtimes: the published pairs of OpenVINO are on Arm."""
        return self.runtime == "openvino" and not self.target.cpu.isa.startswith("arm")

    def _by_proxies(self, plain: Reference) -> Transfer | None:
        if self._by_reference:
            return None
        estimates = (by_proxy(rows, plain, self.runtime, self.sized) for rows in self.others)
        return next((found for found in estimates if found), None)

    def _without_rows(self, own: Reference, plain: Reference) -> Transfer:
        """Estimate from onnxruntime's factor, or from the facts."""
        found = by_rows(self.onnxruntime, plain)
        if found is None and self._by_reference:
            estimates = (by_proxy(rows, plain, "onnxruntime", self.sized) for rows in self.others)
            found = next((one for one in estimates if one), None)
        if found is None:
            cpu, against = self.target.cpu, load_target(plain.model.reference).cpu
            found = by_facts(cpu, self.threads, against, plain.threads)
        return found if self.runtime == "onnxruntime" else for_another_runtime(found, self.runtime)


def with_threads(profile: Profile, runtime: ProfileRuntime, precision: Precision, threads: int) -> list[LatencyRow]:
    """Return the rows of the highest thread count up to `threads` with any rows."""
    counts = {row.threads for row in profile.rows if (row.runtime, row.precision) == (runtime, precision)}
    usable = [count for count in counts if count <= threads]
    return rows_of(profile, runtime, precision, max(usable)) if usable else []
