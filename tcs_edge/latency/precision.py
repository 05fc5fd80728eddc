"""Expected latency of int8 relative to float on a device, from published pairs of the same network.

onnxruntime and OpenVINO have no published int8 latencies on boards. Other runtimes stand for them:

- TFLite and ncnn for onnxruntime: own kernels, and like onnxruntime float32 arithmetic beside int8. ncnn's rows count
  only where its float rows are float32.
- ArmNN and ncnn for OpenVINO on Arm: both ArmNN and OpenVINO call the Arm Compute Library.

The interval is the spread of the ratio over networks, and between the runtimes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pvariance, variance

from tcs_edge.latency.board import NORMAL_90, Int8Evidence, shipped_board_model
from tcs_edge.specs.artifacts import Precision
from tcs_edge.specs.profile import LatencyRow, Profile, ProfileRuntime
from tcs_edge.specs.target import Cpu

PROXIES: dict[str, tuple[ProfileRuntime, ...]] = {"onnxruntime": ("tflite", "ncnn"), "openvino": ("armnn", "ncnn")}
FEWEST_PAIRS = 3


@dataclass(frozen=True)
class Int8Ratio:
    """log(int8 ms / float ms): center, half of the 90 % interval, and the derivation in words."""

    log: float
    half: float
    how: str

    @property
    def speedup(self) -> float:
        """Expected speedup; below 1 where int8 is slower."""
        return math.exp(-self.log)


def int8_ratio(profile: Profile, cpu: Cpu, runtime: ProfileRuntime, threads: int) -> Int8Ratio | None:
    """Estimate the ratio on a device from its own published rows, else from other boards with the same instructions.

    Returns:
        None without any evidence, as on x86 without rows of its own.
    """
    proxies = PROXIES.get(runtime, (runtime,))
    floats: Precision = "fp16" if cpu.fp16_arithmetic and runtime == "openvino" else "fp32"
    series = {name: _own_logs(profile, name, floats, threads) for name in proxies}
    series = {name: logs for name, logs in series.items() if len(logs) >= FEWEST_PAIRS}
    if series:
        found = pooled(list(series.values()))
        return _described(found, f"{found.pairs} published pairs on this profile with {' and '.join(series)}")
    if not cpu.isa.startswith("arm"):
        return None
    core = "dot product" if cpu.int8_dot_product else "no dot product"
    shipped = shipped_board_model().int8.get(proxies[0], {}).get(core)
    if shipped is None:
        return None
    return _described(shipped, f"{shipped.pairs} published pairs on other boards ({core}) with {proxies[0]}")


def pooled(series: Sequence[Sequence[float]]) -> Int8Evidence:
    """Pool the logs of several series, each with the same weight."""
    means = [fmean(logs) for logs in series]
    within = fmean(pvariance(logs) for logs in series)
    spread = math.sqrt(within + (variance(means) if len(means) > 1 else within))
    return Int8Evidence(fmean(means), spread, sum(map(len, series)), len(series))


def _described(found: Int8Evidence, evidence: str) -> Int8Ratio:
    half = NORMAL_90 * found.spread
    low, high = math.exp(-found.mean - half), math.exp(-found.mean + half)
    how = f"int8 x {math.exp(found.mean):.2g} (speedup {low:.2g} to {high:.2g} in 90 %), from {evidence}"
    return Int8Ratio(found.mean, half, how)


def _own_logs(profile: Profile, runtime: ProfileRuntime, floats: Precision, threads: int) -> list[float]:
    """Return log(int8 / float) of the profile's networks in `runtime`, with the most threads up to `threads`."""
    rows = [row for row in profile.rows if row.runtime == runtime and row.threads <= threads and row.batch == 1]
    most = max((row.threads for row in rows), default=0)
    plain = {_network(row): row.p50_ms for row in rows if row.threads == most and row.precision in (floats, "fp32")}
    eighth = [row for row in rows if row.threads == most and row.precision == "int8"]
    return [math.log(row.p50_ms / plain[_network(row)]) for row in eighth if _network(row) in plain]


def _network(row: LatencyRow) -> tuple[str, int]:
    return row.model, row.img_size
