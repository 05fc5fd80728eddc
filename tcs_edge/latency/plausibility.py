"""Can a latency be true? A profile that somebody edited, or measured elsewhere, is held against the device's facts.

Lower bound: a network of M multiply-accumulates takes at least M / (cores x their peak rate); Winograd's
algorithm, which some runtimes use, saves up to 5.06 times of it (F(6x6, 3x3): Lavin and Gray, 2015,
arXiv 1509.09308). Upper bound: one core at 1/300 of its peak, and a tenth of a second on top. Every row shipped
lies between both; of the same rows in seconds or microseconds 99 of 100 do not.
"""

from __future__ import annotations

from collections import Counter

from tcs_edge.errors import SpecError
from tcs_edge.models.candidates import CANDIDATES, Candidate
from tcs_edge.specs.profile import LatencyRow, Profile, ProfileRuntime, load_profile
from tcs_edge.specs.target import Cpu, Precision, TargetSpec

WINOGRAD_SAVING = 324 / 64
# How many times the fp32 rate a vector unit reaches; int8 with the dot product.
RATE: dict[Precision, float] = {"fp32": 1, "fp16": 2, "int8": 4}
AMX_RATE = 8
SLOWEST_SHARE_OF_PEAK = 1 / 300
OVERHEAD_MS = 100.0
MACS_PX = 224
# Runtimes that convolve without Winograd's algorithm: onnxruntime's CPU kernels have none.
DIRECT: frozenset[ProfileRuntime] = frozenset({"onnxruntime"})


def load_target_profile(target: TargetSpec) -> Profile:
    """The profile of `target`, every row of which can be true; without rows where the target names none.

    Raises:
        SpecError: a row cannot be true; the message names it and the bound.
        UnknownName, SpecError: as `load_profile`.
    """
    if not target.profile:
        return Profile(target=target.name)
    profile = load_profile(target.profile)
    require_plausible(profile, target)
    return profile


def require_plausible(profile: Profile, target: TargetSpec) -> None:
    """Raise SpecError for the first row that cannot be true on `target`, saying how many more there are."""
    objections = [found for row in profile.rows if (found := objection(row, target.cpu))]
    if objections:
        more = f" (and {len(objections) - 1} more rows)" if len(objections) > 1 else ""
        raise SpecError(
            f"profile of {profile.target}: {objections[0]}{more}. Latencies are in ms: check the unit, or whether "
            f"the rows are {target.name}'s at all."
        )


def objection(row: LatencyRow, cpu: Cpu) -> str | None:
    """Why this latency cannot be true on this processor; None if it can, or if nobody knows the network's size."""
    candidate = CANDIDATES.get(row.model)
    if candidate is None:
        return None
    macs_m = candidate_macs_m(candidate, row.img_size) * row.batch
    lowest, highest = bounds_ms(macs_m, cpu, row.threads, row.precision)
    if row.p50_ms < lowest:
        return (
            f"{row.what} takes {row.p50_ms:.3g} ms, but {macs_m:.3g} M multiply-accumulates cannot take less than "
            f"{lowest:.3g} ms on {min(row.threads, cpu.cores)} x {cpu.model}"
        )
    if row.p50_ms > highest:
        return f"{row.what} takes {row.p50_ms:.3g} ms, more than {highest:.3g} ms even at 1/300 of one core's peak"
    return None


def bounds_ms(macs_m: float, cpu: Cpu, threads: int, precision: Precision) -> tuple[float, float]:
    """The lowest and the highest latency in ms that `macs_m` (10^6) multiply-accumulates can have."""
    lowest = _at_peak_ms(macs_m, cpu, threads, precision) / WINOGRAD_SAVING
    highest = OVERHEAD_MS + macs_m / (cpu.peak_gmacs(1) * SLOWEST_SHARE_OF_PEAK)
    return lowest, highest


def roofline_ms(macs_m: float, cpu: Cpu, threads: int, precision: Precision, runtime: ProfileRuntime) -> float:
    """The least ms that `macs_m` (10^6) multiply-accumulates take in this runtime: at the processor's peak rate."""
    saving = 1.0 if runtime in DIRECT else WINOGRAD_SAVING
    return _at_peak_ms(macs_m, cpu, threads, precision) / saving


def candidate_macs_m(candidate: Candidate, img_size: int) -> float:
    """10^6 multiply-accumulates of one image: they grow with its area."""
    return candidate.macs_m * (img_size / MACS_PX) ** 2


def _at_peak_ms(macs_m: float, cpu: Cpu, threads: int, precision: Precision) -> float:
    rate = AMX_RATE * RATE[precision] if cpu.amx else RATE[precision]
    return macs_m / (cpu.peak_gmacs(threads) * rate)


def stale_versions(profile: Profile, target: TargetSpec) -> tuple[str, ...]:
    """One line for every runtime version that rows were measured with and `target` neither pins nor knows."""
    measured = Counter((row.runtime, row.version(profile.machine)) for row in profile.rows if row.source == "measured")
    lines = []
    for (runtime, version), count in sorted(measured.items(), key=str):
        expected = target.runtimes.get(runtime) if runtime != "ncnn" else None
        if expected is None or version is None or version in (expected.pin, *expected.known_good):
            continue
        lines.append(
            f"{count} latencies of {profile.target} were measured with {runtime} {version}, {target.name} runs "
            f"{expected.pin}: measure again with `tcs-edge profile --target {target.name}`"
        )
    return tuple(lines)
